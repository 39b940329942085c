"""What a durable engine promises, as far as a process can keep it; each with the workflow kept and rerun."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import time
import uuid
import warnings
from datetime import timedelta
from typing import Any

import pytest

from cerebelum import Context, Failure, StepError, approval, continue_as_new, sleep, step, wait_for_signal, workflow
from cerebelum.testing import Local, Run, approve, days, hours, minutes, seconds
from cerebelum.workflows import Workflow


def play(flow: Workflow, hibernating: bool, inputs: Any = None, local: Local | None = None) -> Run:
    local = local or Local()
    return (local.hibernating() if hibernating else local).run(flow, inputs)


@step
async def echo(context: Context, value: Any, after: int = 0) -> Any:
    await asyncio.sleep(after / 1_000)
    return value


def test_long_sleeps_need_no_pieces(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> int:
        began = context.now()
        await sleep(days(25))
        await sleep(days(365))
        await asyncio.sleep(86_400 * 400)
        return (context.now() - began).days

    run = play(flow, hibernating)
    assert (run.output, run.elapsed) == (790, days(790))


def test_each_step_runs_once_and_none_is_skipped(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> list[int]:
        done = []
        for number in range(10):
            done.append(await echo(context, number))
            await sleep(hours(number))
        return done

    run = play(flow, hibernating)
    assert run.output == list(range(10))
    assert [(call["value"], step.attempts) for call, step in zip(run.calls(echo), run.steps, strict=True)] == [
        (number, 1) for number in range(10)
    ]


def test_a_retry_repeats_only_its_step_with_its_waits(hibernating: bool) -> None:
    begun: list[Any] = []

    @step(retry={"max_attempts": 3, "delay": 10_000, "backoff": 3.0})
    async def flaky(context: Context) -> str:
        begun.append((context.attempt, context.now().timestamp() - 946_684_800))
        await sleep(60_000)
        if context.attempt < 3:
            raise ConnectionError("dropped")
        return context.idempotency_key

    @workflow
    async def flow(context: Context) -> Any:
        before = await echo(context, "before")
        return [before, await flaky(context)]

    run = play(flow, hibernating)
    assert begun == [(1, 0.0), (2, 70.0), (3, 160.0)]
    assert run.elapsed == seconds(220)
    assert len(run.calls(echo)) == 1


def test_numbers_nulls_and_text_arrive_as_they_were(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context, value: Any) -> Any:
        await sleep(1)
        return [value, await echo(context, value)]

    value = {"b": [2**53 + 1, -(2**80), 1.5], "a": {"deep": [None, {"x": None}]}, "é\0": "\u2028"}
    output = play(flow, hibernating, value).output
    assert output == [value, value]
    assert [list(each) for each in output] == [["b", "a", "é\0"]] * 2


def test_keys_differ_by_call_and_run_and_stay_over_reruns(hibernating: bool) -> None:
    @step
    async def key(context: Context) -> str:
        return context.idempotency_key

    @workflow
    async def flow(context: Context, keys: list[str]) -> list[str]:
        keys = [*keys, context.idempotency_key, *await asyncio.gather(key(context), key(context))]
        await sleep(1)
        if len(keys) < 6:
            await continue_as_new(keys)
        return keys

    run = play(flow, hibernating, [])
    assert (len(set(run.output)), run.runs) == (6, 2)
    assert play(flow, not hibernating, []).output == run.output
    assert Local().run(flow, [], execution_id="other").output != run.output


def test_progress_and_log_lines_are_not_said_twice(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> None:
        for number in range(4):
            context.update_progress(number * 25, f"part {number}")
            context.log(f"part {number}")
            await sleep(minutes(1))

    run = play(flow, hibernating)
    assert run.progress == [("flow", number * 25, f"part {number}") for number in range(4)]
    assert [line.message for line in run.logs] == [f"part {number}" for number in range(4)]


@workflow
async def plain_asyncio(context: Context) -> Any:
    """Every primitive once, losers and late ones included."""
    said: list[Any] = []

    async def late(name: str, after: float) -> str:
        try:
            await asyncio.sleep(after)
        except asyncio.CancelledError:
            said.append(f"{name} cancelled")
            raise
        return name

    said.append(await asyncio.gather(late("a", 3), echo(context, "b", 2_000), late("c", 1)))
    done, pending = await asyncio.wait(
        [asyncio.ensure_future(late(name, after)) for name, after in (("d", 1), ("e", 9))], timeout=5
    )
    said.append([len(done), len(pending)])
    for task in pending:
        task.cancel()
    try:
        await asyncio.wait_for(echo(context, "f", 60_000), 10)
    except asyncio.TimeoutError:
        said.append("f timed out")
    said.append(await asyncio.wait_for(echo(context, "g", 1_000), 10))
    for next_done in asyncio.as_completed([late("h", 2), late("i", 1), echo(context, "j", 1_500)]):
        said.append(await next_done)
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    event, lock = asyncio.Event(), asyncio.Lock()

    async def produce() -> None:
        async with lock:
            for number in range(3):
                await queue.put(number)
                await sleep(10)
        event.set()

    producer = asyncio.create_task(produce())
    said.append([await queue.get() for _ in range(3)])
    await event.wait()
    await producer
    shielded = asyncio.create_task(echo(context, "k", 3_000))
    try:
        await asyncio.wait_for(asyncio.shield(shielded), 1)
    except asyncio.TimeoutError:
        said.append(await shielded)
    failed = await asyncio.gather(late("l", 1), raising(), return_exceptions=True)
    said.append([failed[0], type(failed[1]).__name__])
    # Left running: cancelled at the end.
    asyncio.create_task(late("m", 99)).add_done_callback(lambda task: None)
    await asyncio.sleep(0)
    return [said, context.now().timestamp()]


async def raising() -> None:
    await sleep(500)
    raise LookupError("nothing there")


def test_asyncio_behaves_the_same_kept_and_rerun() -> None:
    kept, rerun = play(plain_asyncio, False), play(plain_asyncio, True)
    assert kept.output == rerun.output
    assert kept.elapsed == rerun.elapsed
    assert [(step.name, step.input, step.began) for step in kept.steps] == [
        (step.name, step.input, step.began) for step in rerun.steps
    ]
    said = kept.output[0]
    assert said[:4] == [["a", "b", "c"], [1, 1], "e cancelled", "f timed out"]
    assert said[4:] == ["g", "i", "j", "h", [0, 1, 2], "k", ["l", "LookupError"]]


@pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="from Python 3.11 on")
def test_task_groups_and_timeouts_behave_the_same_kept_and_rerun(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        said: list[Any] = []
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(echo(context, name, 1_000)) for name in "ab"]
        said.append([task.result() for task in both])
        try:
            async with asyncio.timeout(5):
                await sleep(days(1))
        except TimeoutError:
            said.append("late")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(sleep(days(1)))
                group.create_task(raising())
        except Exception as several:
            # An ExceptionGroup, for which Python 3.10 has no name.
            said.append([type(error).__name__ for error in getattr(several, "exceptions", ())])
        return said

    run = play(flow, hibernating)
    assert run.output == [["a", "b"], "late", ["LookupError"]]
    assert run.elapsed == seconds(1 + 5 + 0.5)


def test_a_race_between_an_answer_and_a_signal_has_one_winner(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        person = asyncio.ensure_future(approval("Go?"))
        message = asyncio.ensure_future(wait_for_signal("stop"))
        done, pending = await asyncio.wait({person, message}, return_when=asyncio.FIRST_COMPLETED)
        for loser in pending:
            loser.cancel()
        won = "person" if person in done else "message"
        # A call that was given up consumed nothing.
        return [won, await wait_for_signal("stop", timeout=days(9))]

    def local(after: timedelta) -> Local:
        return (
            Local()
            .on_approval("Go?", approve().after(after))
            .signal("stop", "now", after=days(2))
            .signal("stop", "again", after=days(4))
        )

    first = play(flow, hibernating, local=local(days(1)))
    assert (first.output, first.elapsed) == (["person", "now"], days(2))
    second = play(flow, hibernating, local=local(days(3)))
    assert (second.output, second.elapsed) == (["message", "again"], days(4))


def test_chance_and_the_clock_repeat_on_a_rerun() -> None:
    @workflow
    async def flow(context: Context) -> Any:
        drawn = [random.random(), str(uuid.uuid4()), secrets.token_hex(4), random.SystemRandom().random(), time.time()]
        first = await echo(context, drawn)
        await sleep(hours(1))
        return [first, drawn, time.time() - drawn[4]]

    run = Local().hibernating().run(flow)
    first, drawn, passed = run.output
    assert first == drawn
    assert passed == 3_600.0
    assert drawn[4] == 946_684_800.0
    # Outside of it, everything is as it was.
    assert abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 5
    assert len({random.random(), random.random(), uuid.uuid4()}) == 3


def test_a_workflow_that_differs_on_a_rerun_diverges() -> None:
    begun: list[int] = []

    @workflow
    async def asks_else(context: Context) -> None:
        begun.append(1)
        await echo(context, len(begun))
        await sleep(1)

    @workflow
    async def asks_less(context: Context) -> None:
        begun.append(1)
        await sleep(1)
        if len(begun) < 3:
            await sleep(2)
            await sleep(3)

    @workflow
    async def asks_more(context: Context) -> None:
        begun.append(1)
        if len(begun) > 1:
            await asyncio.gather(sleep(1), sleep(2))
        else:
            await sleep(1)
        await sleep(3)

    for flow, why in (
        (
            asks_else,
            """it asked for step 'echo' with {"value":2} where it had asked for step 'echo' with {"value":1}""",
        ),
        (asks_less, "it did not ask again for a sleep of 2 ms"),
        (asks_more, "it asked for a sleep of 2 ms, which it had not asked for before"),
    ):
        begun.clear()
        failure = Local().hibernating().run(flow).failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("diverged", f"the workflow does something else on a rerun: {why}")


def test_who_waits_for_nothing_is_told(hibernating: bool) -> None:
    @step
    async def stuck(context: Context) -> None:
        await asyncio.Event().wait()

    @workflow
    async def flow(context: Context, of: str) -> Any:
        if of == "workflow":
            await asyncio.Queue().get()
        if of == "leftover":

            async def ignores() -> None:
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        continue

            asyncio.create_task(ignores()).add_done_callback(lambda _: None)
            await asyncio.sleep(0)
            return "ended"
        try:
            await stuck(context)
        except StepError as error:
            return [error.kind, error.retryable]

    dead = play(flow, hibernating, "workflow")
    assert dead.failure is not None
    assert (dead.status, dead.failure.kind) == ("failed", "deadlock")
    assert play(flow, hibernating, "step").output == ["deadlock", False]
    assert play(flow, hibernating, "leftover").output == "ended"


def test_what_nothing_in_the_test_brings_about_is_named(hibernating: bool) -> None:
    @step
    async def ask(context: Context) -> None:
        await approval("Go live?")

    @workflow
    async def flow(context: Context) -> None:
        await asyncio.gather(ask(context), wait_for_signal("paid"))

    run = play(flow, hibernating)
    assert run.failure is not None
    assert (run.status, run.failure.kind) == ("waiting", "waiting")
    assert "signal 'paid'" in run.failure.message
    assert "approval 'Go live?'" in run.failure.message
    assert run.failure.message.endswith("and nothing in this test brings that about")


def test_a_workflow_that_never_ends_is_given_up_after_a_century() -> None:
    @workflow
    async def flow(context: Context) -> None:
        while True:
            await sleep(days(300))

    run = Local().run(flow)
    assert (run.status, run.failure and run.failure.message) == ("waiting", "still running after 100 years")


def test_reruns_leave_nothing_behind() -> None:
    @workflow
    async def flow(context: Context) -> Any:
        try:
            async with asyncio.Lock():
                return await asyncio.gather(plain(context, 3), plain(context, 1), raising(), return_exceptions=False)
        except LookupError:
            return "failed"
        finally:
            # Dropped in the middle of it, this does nothing.
            await sleep(1)

    async def plain(context: Context, count: int) -> None:
        for _ in range(count):
            await asyncio.wait_for(echo(context, count, 100), 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Local().hibernating().run(flow)
        gc.collect()
    assert (run.output, run.elapsed) == ("failed", timedelta(milliseconds=501))


def test_a_failure_that_says_what_it_is_keeps_its_words(hibernating: bool) -> None:
    @step
    async def refuse(context: Context) -> None:
        raise Failure("no card", kind="declined", details={"code": 51}, retryable=False)

    @workflow
    async def flow(context: Context) -> None:
        await sleep(1)
        await refuse(context)

    run = play(flow, hibernating)
    assert run.failure is not None
    assert (run.failure.kind, run.failure.message, run.failure.details) == ("declined", "no card", {"code": 51})
    assert run.steps[0].attempts == 1
