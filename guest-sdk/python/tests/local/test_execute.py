"""`await workflow.execute(…)` in this process: real time, no engine."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cerebelum import (
    Context,
    ExecutionError,
    Failure,
    StepError,
    call_step,
    continue_as_new,
    run_workflow,
    sleep,
    start_workflow,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum._local.limits import WAIT_MS_MAX
from cerebelum.errors import WorkflowDefinitionError

SRC = Path(__file__).parents[2] / "src"


@step
async def double(context: Context, value: int) -> int:
    return value * 2


def execute(flow: Any, inputs: Any = None, **options: Any) -> Any:
    return asyncio.run(flow.execute(inputs, **options))


def test_a_workflow_runs_its_steps_and_yields_its_output() -> None:
    @workflow
    async def flow(context: Context, value: int) -> int:
        return await double(context, await double(context, value))

    result = execute(flow, 3)
    assert (result.status, result.output, result.error) == ("completed", 12, None)
    assert result.started_at <= result.completed_at


def test_values_cross_as_json_so_that_scopes_share_nothing() -> None:
    seen: list[Any] = []

    @step
    async def change(context: Context, items: list[Any]) -> list[Any]:
        items.append("more")
        seen.append(items)
        return items

    @workflow
    async def flow(context: Context, items: list[Any]) -> Any:
        returned = await change(context, items)
        seen[0].append("later")
        return [items, returned]

    given = [(1, 2), None, {"deep": [None, {"x": None}]}, 2**64 + 1, "\0"]
    mine, returned = execute(flow, given).output
    assert mine == [[1, 2], None, {"deep": [None, {"x": None}]}, 2**64 + 1, "\0"]
    assert returned == [*mine, "more"]


def test_a_scope_does_not_see_the_context_variables_of_its_caller() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    @step
    async def look(context: Context) -> str:
        return who.get()

    @workflow
    async def flow(context: Context) -> Any:
        mine = who.get()
        who.set("workflow")
        return [mine, await look(context), who.get()]

    async def main() -> Any:
        who.set("program")
        return await flow.execute()

    assert asyncio.run(main()).output == ["nobody", "nobody", "workflow"]


def test_a_step_that_fails_for_good_is_named_with_its_traceback() -> None:
    @step(retry=1)
    async def explode(context: Context) -> None:
        raise ZeroDivisionError("no such number")

    @workflow
    async def flow(context: Context) -> None:
        await explode(context)

    with pytest.raises(ExecutionError, match="Execution failed at step 'explode': no such number") as caught:
        execute(flow)
    failed = caught.value
    assert failed.step_name == "explode"
    assert failed.result is not None
    assert failed.result.status == "failed"
    failure = failed.result.failure
    assert failure is failed.error
    assert failure is not None
    assert (failure.kind, failure.type) == ("exception", "ZeroDivisionError")
    assert 'raise ZeroDivisionError("no such number")' in (failure.traceback or "")


def test_an_exception_of_the_workflow_itself_is_the_cause_of_the_error() -> None:
    @workflow
    async def flow(context: Context) -> None:
        raise KeyError("missing")

    with pytest.raises(ExecutionError) as caught:
        execute(flow)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.step_name is None


def test_an_attempt_that_leaves_the_process_only_fails() -> None:
    @step(retry=1)
    async def leave(context: Context) -> None:
        sys.exit(3)

    @workflow
    async def flow(context: Context) -> str:
        try:
            await leave(context)
        except StepError as error:
            return str(error.type)
        return "went on"

    assert execute(flow).output == "SystemExit"


def test_retries_wait_for_real_and_keep_the_key() -> None:
    keys: list[Any] = []

    @step(retry={"max_attempts": 3, "delay": 20, "backoff": 2.0, "jitter": 0.0})
    async def flaky(context: Context) -> int:
        keys.append((context.attempt, context.idempotency_key))
        if context.attempt < 3:
            raise ConnectionError("not yet")
        return context.attempt

    @workflow
    async def flow(context: Context) -> Any:
        return [await flaky(context), await flaky(context), context.idempotency_key]

    began = time.monotonic()
    output = execute(flow, execution_id="order-1").output
    assert time.monotonic() - began >= 0.12
    assert output[:2] == [3, 3]
    assert [attempt for attempt, _ in keys] == [1, 2, 3, 1, 2, 3]
    first, second = {key for _, key in keys[:3]}, {key for _, key in keys[3:]}
    assert len(first) == len(second) == 1
    assert len(first | second | {output[2]}) == 3
    assert len(output[2]) == 32
    again: list[Any] = list(keys)
    keys.clear()
    execute(flow, execution_id="order-1")
    assert keys == again


def test_a_timeout_bounds_a_stretch_and_not_the_waiting() -> None:
    attempts: list[int] = []

    @step(timeout=80, retry={"max_attempts": 2, "delay": 1})
    async def hangs(context: Context) -> None:
        attempts.append(context.attempt)
        await asyncio.Event().wait()

    @step(timeout=80, retry=1)
    async def waits(context: Context) -> str:
        for _ in range(4):
            await sleep(40)
        return "waited"

    @workflow
    async def flow(context: Context) -> Any:
        try:
            await hangs(context)
        except StepError as error:
            return [error.kind, error.message, await waits(context)]

    assert execute(flow).output == ["timeout", "the step took longer than 80 ms between two waits", "waited"]
    assert attempts == [1, 2]


def test_a_deadline_bounds_the_whole_step() -> None:
    @step(deadline=100, retry={"max_attempts": 100, "delay": 30, "backoff": 1.0})
    async def never(context: Context) -> None:
        raise ConnectionError("no")

    @workflow
    async def flow(context: Context) -> Any:
        try:
            await never(context)
        except StepError as error:
            return [error.kind, error.message]

    assert execute(flow).output == ["deadline", "the step's deadline passed"]


def test_signals_wait_for_whoever_asks_for_them() -> None:
    @workflow
    async def flow(context: Context) -> Any:
        got = [await wait_for_signal("paid"), await wait_for_signal("paid"), await wait_for_signal("shipped")]
        try:
            await wait_for_signal("paid", timeout=20)
        except Failure as failure:
            return [*got, failure.kind, failure.message]

    output = execute(flow, signals={"paid": [1, 2], "shipped": {"by": "rail"}}).output
    assert output == [1, 2, {"by": "rail"}, "timeout", "the signal did not come in time"]


def test_children_run_and_detached_ones_are_waited_for() -> None:
    ended: list[str] = []

    @workflow
    async def child(context: Context, value: int) -> int:
        await sleep(30)
        ended.append(context.execution_id)
        if value < 0:
            raise ValueError("negative")
        return value + 1

    @workflow
    async def flow(context: Context) -> Any:
        id = await start_workflow(child, 10)
        named = await start_workflow("child", 10, id="named")
        try:
            await start_workflow("child", 10, id="named")
        except Failure as failure:
            taken = failure.kind
        try:
            await child(context, -1)
        except Failure as failure:
            return [id, named, taken, await run_workflow(child, 1), failure.kind, failure.type]

    output = execute(flow, execution_id="parent").output
    assert output == ["parent.1", "named", "conflict", 2, "exception", "ValueError"]
    assert sorted(ended) == ["named", "parent.1", "parent.4", "parent.5"]


def test_continue_as_new_begins_again_with_the_same_id_and_unread_signals() -> None:
    cleaned: list[str] = []

    @workflow
    async def flow(context: Context, count: int) -> Any:
        if count == 0:
            return [context.run, context.execution_id, await wait_for_signal("left")]
        try:
            await continue_as_new(count - 1)
        finally:
            # Nothing of a run that has ended reaches the outside any more.
            await double(context, 1)
            cleaned.append("too late")

    assert execute(flow, 3, execution_id="again", signals={"left": "here"}).output == [4, "again", "here"]
    assert cleaned == []


def test_what_is_not_there_is_said_with_what_is() -> None:
    @workflow
    async def flow(context: Context, name: str) -> Any:
        try:
            await call_step(name)
        except StepError as error:
            return [error.kind, error.message]

    kind, message = execute(flow, "dubble").output
    assert kind == "not-found"
    assert message.startswith("there is no step 'dubble' in this program; it has: ")
    kind, message = execute(flow, "mailer/send").output
    assert kind == "not-found"
    assert "belongs to component 'mailer'" in message
    assert "Local().replace('mailer/send', …)" in message


def test_workflows_do_not_fetch_and_steps_do_not_speak_for_the_execution() -> None:
    from cerebelum import http

    @step(retry=1)
    async def name_it(context: Context) -> None:
        context.set_attribute("customer", "ada")

    @step(retry=1)
    async def begin_again(context: Context) -> None:
        await continue_as_new(1)

    @workflow
    async def flow(context: Context) -> Any:
        kinds = []
        for refused in (
            lambda: http.get("http://127.0.0.1:1/"),
            lambda: name_it(context),
            lambda: begin_again(context),
        ):
            try:
                await refused()
            except Failure as failure:
                kinds.append([failure.kind, failure.message])
        return kinds

    assert execute(flow).output == [
        ["not-granted", "a workflow cannot fetch: effects belong in steps"],
        ["not-granted", "only a workflow can set attributes"],
        ["not-granted", "only a workflow can continue as new"],
    ]


def test_waits_and_values_have_the_limits_of_an_engine() -> None:
    @step(retry=1)
    async def big(context: Context) -> str:
        return "x" * (1 << 20)

    @step(retry=1)
    async def deep(context: Context) -> Any:
        value: Any = []
        for _ in range(200):
            value = [value]
        return value

    @workflow
    async def flow(context: Context) -> Any:
        kinds = []
        for refused in (lambda: sleep(WAIT_MS_MAX + 1), lambda: big(context), lambda: deep(context)):
            try:
                await refused()
            except Failure as failure:
                kinds.append(failure.kind)
        return kinds

    assert execute(flow).output == ["invalid-argument", "invalid-output", "invalid-output"]
    with pytest.raises(ValueError, match="an execution id has 1 to 128"):
        execute(flow, execution_id="no spaces")


def test_a_timeline_with_mistakes_is_not_started() -> None:
    @workflow
    def flow(wf: Any) -> None:
        @step(name="a")
        async def a(context: Context, b: Any) -> None: ...

        wf.timeline(a)

    with pytest.raises(WorkflowDefinitionError):
        execute(flow)


def test_timelines_run_in_this_process() -> None:
    @step
    async def first(context: Context, inputs: dict[str, int]) -> dict[str, int]:
        return {"value": inputs["value"]}

    @step
    async def second(context: Context, first: dict[str, int]) -> dict[str, int]:
        return {"result": first["value"] * 2}

    @workflow
    def flow(wf: Any) -> None:
        wf.timeline(first >> second)

    assert execute(flow, {"value": 21}).output == {"result": 42}
