"""Programs start executions on a real engine, look at them and steer them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from engine_process import World, component

from cerebelum.client import (
    EngineError,
    ExecutionClient,
    ExecutionState,
    ExecutionStatus,
    InvalidRequest,
    NotFound,
    Refused,
)
from cerebelum.errors import ExecutionError, SerializationError

pytestmark = pytest.mark.asyncio


async def state_reached(client: ExecutionClient, execution_id: str, state: ExecutionState) -> ExecutionStatus:
    """Watches an execution until it is in this state."""
    async for status in client.watch(execution_id):
        if status.state is state:
            return status
    raise AssertionError(f"{execution_id} ended without having been {state}")


async def refusal(call: Awaitable[object]) -> Exception | None:
    """What it raises, if it raises."""
    try:
        await call
    except Exception as error:
        return error
    return None


async def test_a_started_execution_brings_back_what_it_returned(client: ExecutionClient) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    execution = await client.start("hello", {"name": "Ada"})
    result = await execution.result()
    assert (result.execution_id, result.status) == (execution.execution_id, "completed")
    assert result.output == {"text": "Hello, Ada!"}
    assert result.error is None
    assert result.failure is None
    assert result.started_at is not None
    assert result.completed_at is not None
    assert before < result.started_at <= result.completed_at
    status = await execution.status()
    assert (status.workflow, status.workflow_name) == ("hello/hello", "hello")
    assert status.inputs == {"name": "Ada"}
    assert status.state is ExecutionState.COMPLETED
    assert [(step.name, step.status, step.output) for step in status.completed_steps] == [
        ("greet", "completed", {"text": "Hello, Ada!"})
    ]
    assert status.progress_percentage == 100.0
    assert status.current_step_name is None
    assert status.sleep_info is None


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        -(2**63) - 7,
        10**40,
        {"z": None, "a": [None, [[]], {"": None}]},
        'nul \0, quote ", snow \u2603, \U0001f30b',
        [0.1, -0.0, 1e300, True, False],
        None,
    ],
    ids=repr,
)
async def test_values_come_back_exactly(client: ExecutionClient, value: Any) -> None:
    result = await (await client.start("echo", value)).result()
    assert result.output == value
    assert repr(result.output) == repr(value)


async def test_what_is_no_json_is_refused_before_it_leaves(client: ExecutionClient) -> None:
    for value in (object(), float("nan"), float("inf")):
        with pytest.raises(SerializationError, match="the input"):
            await client.start("echo", value)


async def test_the_same_id_means_the_same_execution(client: ExecutionClient) -> None:
    first = await client.start("echo", [1], execution_id="py-same")
    await first.wait()
    again = await client.start("echo", [1], execution_id="py-same")
    assert again.state is ExecutionState.COMPLETED
    assert again.started_at == first.started_at
    with pytest.raises(Refused, match="py-same"):
        await client.start("echo", [2], execution_id="py-same")


async def test_what_is_not_there_is_told_in_one_line(client: ExecutionClient) -> None:
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    nobody = "py-nobody"
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "status": lambda: client.get_execution_status(nobody),
        "wait": lambda: client.wait(nobody),
        "result": lambda: client.result(nobody),
        "watch": lambda: read(client.watch(nobody)),
        "history": lambda: read(client.history(nobody)),
        "logs": lambda: read(client.logs(nobody)),
        "approve": lambda: client.approve(nobody),
        "reject": lambda: client.reject(nobody, "no"),
        "signal": lambda: client.signal(nobody, "go"),
        "cancel": lambda: client.cancel(nobody),
        "terminate": lambda: client.terminate(nobody),
        "pause": lambda: client.pause(nobody),
        "resume": lambda: client.resume_execution(nobody),
        "delete": lambda: client.delete(nobody),
        "start": lambda: client.start(nobody),
    }
    for verb, call in calls.items():
        with pytest.raises(NotFound) as caught:
            await call()
        line = str(caught.value)
        assert nobody in line, verb
        assert "\n" not in line, verb


async def test_a_request_that_makes_no_sense_is_an_invalid_request(client: ExecutionClient) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "input that does not fit": lambda: client.start("hello", {"name": 7}),
        "odd id": lambda: client.start("hello", {"name": "x"}, execution_id="no such id"),
        "attribute that is no scalar": lambda: client.start("hello", {"name": "x"}, attributes={"stage": ["x"]}),
        "unknown status": lambda: client.list_executions(status="asleep"),
        "limit of nothing": lambda: client.list_executions(limit=0),
        "no id": lambda: client.get_execution_status(""),
        "no name": lambda: client.upload(component("hello").read_bytes()),
    }
    for what, call in calls.items():
        caught = await refusal(call())
        assert isinstance(caught, InvalidRequest), f"{what}: {caught!r}"
        assert "\n" not in str(caught), what
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(InvalidRequest, EngineError)


async def test_a_failed_execution_says_at_which_step_and_why(client: ExecutionClient) -> None:
    execution = await client.start("hostile_step", "nothing known")
    with pytest.raises(ExecutionError) as caught:
        await execution.result()
    assert str(caught.value) == "Execution failed at step 'misbehave': no such misbehaviour: nothing known"
    assert caught.value.step_name == "misbehave"
    result = caught.value.result
    assert result is not None
    assert result.failure is not None
    assert caught.value.error == result.failure
    assert (result.status, result.output, result.error) == ("failed", None, result.failure.message)
    assert (result.failure.kind, result.failure.retryable) == ("unknown", True)
    status = await execution.status()
    assert status.error == result.error
    [listed] = [one async for one in client.all_executions() if one.execution_id == execution.execution_id]
    assert listed.failure is not None
    assert (listed.failure.kind, listed.error, listed.waits_for) == ("unknown", result.error, None)
    assert [(step.name, step.error) for step in status.steps] == [("misbehave", result.error)]


async def test_a_workflow_that_fails_by_itself_names_no_step(client: ExecutionClient) -> None:
    execution = await client.start("hostile", "nothing known")
    with pytest.raises(ExecutionError) as caught:
        await execution.result()
    assert str(caught.value) == "Execution failed: no such misbehaviour: nothing known"
    assert caught.value.step_name is None


async def test_a_failed_execution_goes_on_when_it_is_resumed(client: ExecutionClient, world: World) -> None:
    world.on = False
    execution = await client.start("gated", world.url)
    with pytest.raises(ExecutionError, match="Execution failed at step 'pass_gate'"):
        await execution.result()
    world.on = True
    await client.resume_execution(execution.execution_id)
    assert (await execution.result()).output == "through"
    assert (world.asked["/notes/first"], world.asked["/notes/last"]) == (1, 1)
    with pytest.raises(Refused, match="completed"):
        await client.resume_execution(execution.execution_id)


async def test_parallel_steps_have_one_outcome(client: ExecutionClient, world: World) -> None:
    result = await (await client.start("fan-out/fan_out", {"base_url": world.url, "parts": 5})).result()
    assert result.output == [1, 2, 3, 4, 5]


async def test_a_yes_carries_its_terms(client: ExecutionClient, world: World) -> None:
    execution = await client.start("approval", {"base_url": world.url, "version": "py-1.2", "timeout_ms": 600_000})
    status = await state_reached(client, execution.execution_id, ExecutionState.WAITING_FOR_APPROVAL)
    assert [(wait.kind, wait.name, wait.scope) for wait in status.waiting_on] == [("approval", "Publish py-1.2?", "")]
    [listed] = [one async for one in client.all_executions() if one.execution_id == execution.execution_id]
    assert listed.waits_for is not None
    assert (listed.waits_for.kind, listed.waits_for.name, listed.other_waits) == ("approval", "Publish py-1.2?", 0)
    assert listed.failure is None
    (asked,) = await client.approvals(execution.execution_id)
    assert (asked.title, asked.kind, asked.data, asked.state) == ("Publish py-1.2?", "release", "py-1.2", "open")
    assert asked.deadline == asked.requested_at + timedelta(minutes=10)
    assert asked.remaining_seconds is not None
    assert 500 < asked.remaining_seconds <= 600
    assert "percent" in asked.schema["properties"]
    assert asked in await client.approvals()
    with pytest.raises(InvalidRequest, match="percent"):
        await client.approve(execution.execution_id, data={"percent": "ten"})
    told = await client.approve(asked.approval_id, data={"percent": 10}, comment="carefully", by="ada")
    assert told == execution.execution_id
    assert (await execution.result()).output == {"outcome": "published", "by": "ada", "percent": 10}
    with pytest.raises(Refused, match="approved"):
        await client.approve(asked.approval_id)


async def test_a_no_carries_its_reason(client: ExecutionClient, world: World) -> None:
    execution = await client.start("approval", {"base_url": world.url, "version": "py-1.3"})
    await state_reached(client, execution.execution_id, ExecutionState.WAITING_FOR_APPROVAL)
    await client.reject(execution.execution_id, "too early", by="ada")
    output = (await execution.result()).output
    assert output["outcome"] == "rejected"
    assert "too early" in output["reason"]


async def test_who_says_yes_is_this_machines_user_unless_named(
    client: ExecutionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "grace")
    execution = await client.start("asking", {"title": "Who?"})
    await state_reached(client, execution.execution_id, ExecutionState.WAITING_FOR_APPROVAL)
    await client.approve(execution.execution_id)
    assert (await execution.result()).output == "{} by grace"


async def test_watching_shows_progress_and_ends_with_the_execution(client: ExecutionClient) -> None:
    execution = await client.start("telling", 300)
    seen = [status async for status in execution.watch()]
    assert seen[-1].state is ExecutionState.COMPLETED
    assert seen[-1].has_ended
    assert not any(status.has_ended for status in seen[:-1])
    sleeping = next(status for status in seen if status.state is ExecutionState.SLEEPING)
    assert sleeping.progress_percentage in (10.0, 90.0)
    assert sleeping.sleep_info is not None
    assert sleeping.sleep_info.duration_seconds == pytest.approx(0.3, abs=0.01)
    assert all(one != other for one, other in pairwise(seen))


async def test_a_wait_may_be_bounded_and_the_execution_goes_on(client: ExecutionClient) -> None:
    execution = await client.start("listening", {"names": ["go"]})
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=execution.execution_id):
        await execution.wait(timeout=0.3)
    with pytest.raises(TimeoutError):
        await execution.result(timeout=timedelta(milliseconds=200))
    assert 0.5 <= time.monotonic() - begun < 60
    await execution.signal("go", {"n": 2**60 + 1})
    assert (await execution.result()).output == [{"n": 2**60 + 1}]


async def test_lists_come_page_by_page(client: ExecutionClient) -> None:
    ids = [f"py-page-{number}" for number in range(7)]
    for number, execution_id in enumerate(ids):
        attributes = {"batch": "pages", "odd": number % 2 == 1}
        await (await client.start("echo", number, execution_id=execution_id, attributes=attributes)).wait()
    pages, cursor = [], None
    while True:
        page = await client.list_executions(limit=3, cursor=cursor, attributes={"batch": "pages"})
        pages.append([execution.execution_id for execution in page])
        cursor = page.next
        if cursor is None:
            break
    newest_first = ids[::-1]
    assert pages == [newest_first[:3], newest_first[3:6], newest_first[6:]]
    odd = await client.list_executions("echo", ExecutionState.COMPLETED, attributes={"batch": "pages", "odd": True})
    assert [execution.execution_id for execution in odd] == ["py-page-5", "py-page-3", "py-page-1"]
    assert len(odd) == 3
    assert all(execution.attributes["odd"] is True for execution in odd)
    everything = [one.execution_id async for one in client.all_executions("echo", attributes={"batch": "pages"})]
    assert everything == newest_first
    assert len(await client.list_executions("hello", attributes={"batch": "pages"})) == 0
    assert len(await client.list_executions(status="failed", attributes={"batch": "pages"})) == 0


async def test_what_has_not_ended_is_active(client: ExecutionClient) -> None:
    listening = await client.start("listening", {"names": ["go"]})
    sleeping = await client.start("telling", 60_000)
    ended = await client.start("echo", 1)
    await ended.wait()
    await state_reached(client, listening.execution_id, ExecutionState.WAITING)
    await state_reached(client, sleeping.execution_id, ExecutionState.SLEEPING)
    active = {execution.execution_id: execution for execution in await client.list_active_workflows()}
    assert active[listening.execution_id].state is ExecutionState.WAITING
    assert active[sleeping.execution_id].state is ExecutionState.SLEEPING
    assert ended.execution_id not in active
    await client.terminate(sleeping.execution_id)
    await client.terminate(listening.execution_id)


async def test_a_cancelled_execution_is_no_result(client: ExecutionClient) -> None:
    execution = await client.start("listening", {"names": ["never"]})
    await state_reached(client, execution.execution_id, ExecutionState.WAITING)
    await execution.cancel()
    with pytest.raises(ExecutionError) as caught:
        await execution.result()
    assert caught.value.result is not None
    assert caught.value.result.status == "cancelled"
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.kind == "cancelled"


async def test_a_paused_execution_moves_again_when_it_is_resumed(client: ExecutionClient) -> None:
    execution = await client.start("listening", {"names": ["go"]})
    await state_reached(client, execution.execution_id, ExecutionState.WAITING)
    await client.pause(execution.execution_id)
    await state_reached(client, execution.execution_id, ExecutionState.PAUSED)
    await execution.signal("go")
    with pytest.raises(TimeoutError):
        await execution.wait(timeout=0.2)
    await client.resume_execution(execution.execution_id)
    assert (await execution.result()).output == [None]


async def test_a_deleted_execution_is_gone_and_a_live_one_is_not_deleted(client: ExecutionClient) -> None:
    execution = await client.start("listening", {"names": ["go"]})
    with pytest.raises(Refused, match="has not ended"):
        await client.delete(execution.execution_id)
    await client.terminate(execution.execution_id)
    assert (await execution.wait()).state is ExecutionState.CANCELLED
    await client.delete(execution.execution_id)
    with pytest.raises(NotFound):
        await execution.status()


async def test_delay_and_deadline_are_respected(client: ExecutionClient) -> None:
    late = await client.start("echo", 1, delay=timedelta(milliseconds=400))
    assert late.state is ExecutionState.WAITING
    status = await late.wait()
    assert status.elapsed_seconds >= 0.4
    assert status.steps[0].started_at - status.started_at >= timedelta(milliseconds=400)
    short = await client.start("listening", {"names": ["never"]}, deadline=200)
    with pytest.raises(ExecutionError) as caught:
        await short.result()
    assert caught.value.result is not None
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.kind == "deadline"


async def test_history_and_logs_are_read_in_order(client: ExecutionClient) -> None:
    execution = await client.start("countdown", 2)
    assert (await execution.result()).output == 3
    last = [event.kind async for event in client.history(execution.execution_id)]
    assert last == ["ExecutionStarted", "ExecutionCompleted"]
    first = [event async for event in client.history(execution.execution_id, run=1)]
    assert [event.position for event in first] == list(range(1, len(first) + 1))
    assert [event.kind for event in first][:3] == ["ExecutionStarted", "StepStarted", "StepCompleted"]
    assert first[0].fields["input"] == 2
    assert first[0].time.tzinfo is not None
    with pytest.raises(NotFound, match="run 9"):
        [event async for event in client.history(execution.execution_id, run=9)]
    telling = await client.start("telling", 50)
    followed = [line.text async for line in client.logs(telling.execution_id, follow=True)]
    lines = [line async for line in client.logs(telling.execution_id)]
    assert followed == [line.text for line in lines] == ["first line", "second line"]
    assert {line.level for line in lines} == {"info"}
    later = [line.text async for line in client.logs(telling.execution_id, after=lines[0].seq)]
    assert later == ["second line"]


async def test_components_come_as_files_and_as_bytes(client: ExecutionClient) -> None:
    path = component("hello")
    uploaded = await client.upload(path.read_bytes(), name="py-hello")
    assert (uploaded.name, uploaded.workflows, uploaded.steps) == ("py-hello", ("hello",), ("greet",))
    assert uploaded.current
    assert uploaded.size == path.stat().st_size
    assert len(uploaded.digest) == 64
    known = {known.name: known for known in await client.components()}
    assert known["py-hello"] == uploaded
    assert known["fan-out"].capabilities == ("http:127.0.0.1", "http:localhost")
    assert (await (await client.start("py-hello/hello", {"name": "x"})).result()).output == {"text": "Hello, x!"}
    with pytest.raises(InvalidRequest, match="say one of"):
        await client.start("hello", {"name": "x"})
    assert await client.remove_component("py-hello", uploaded.digest[:12]) == [uploaded.digest]
    with pytest.raises(NotFound, match="py-hello"):
        await client.remove_component("py-hello")
    with pytest.raises(FileNotFoundError):
        await client.upload(path.with_name("no-such.wasm"))
    for content in (b"", b"not a component"):
        with pytest.raises(Refused, match="WebAssembly component"):
            await client.upload(content, name="py-odd")
