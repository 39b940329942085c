"""Workflows as children: their arguments, the types of their outputs, and their ids."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from cerebelum import (
    Context,
    Failure,
    continue_as_new,
    not_yet,
    poll,
    ready,
    run_workflow,
    sleep,
    start_workflow,
    step,
    workflow,
)
from cerebelum._local.world import World
from cerebelum.testing import Local, days


@dataclass
class Order:
    id: str
    cents: int


def test_a_child_takes_its_arguments_as_a_step_does(hibernating: bool) -> None:
    @workflow
    async def child(context: Context, id: str, order: Order, count: int = 1) -> list[Any]:
        return [context.execution_id, id, order.cents, count]

    @workflow
    async def single(context: Context, id: int = 7) -> Any:
        return [context.execution_id, id]

    @workflow
    async def none(context: Context) -> str:
        return context.execution_id

    @workflow
    async def flow(context: Context) -> Any:
        return [
            await child(context, "a", Order("o", 5)),
            await child(context, "b", order=Order("o", 6), count=2),
            await child(context=context, order=Order("o", 7), id="c"),
            await single(context, id=8),
            await single(context),
            await none(context),
            await run_workflow(single, 9, id="chosen"),
        ]

    local = Local()
    assert (local.hibernating() if hibernating else local).run(flow).output == [
        ["local.1", "a", 5, 1],
        ["local.2", "b", 6, 2],
        ["local.3", "c", 7, 1],
        ["local.4", 8],
        ["local.5", 7],
        "local.6",
        ["chosen", 9],
    ]


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


def test_wrong_arguments_name_the_workflow() -> None:
    @workflow
    async def child(context: Context, name: str, count: int = 1) -> None: ...

    @workflow
    def line(wf: Any) -> None:
        wf.timeline(look)

    @workflow
    async def flow(context: Context) -> list[str]:
        calls: list[Callable[[], Any]] = [
            lambda: child("a", 1),  # type: ignore[arg-type]
            lambda: child(context, "a", cnt=1),  # type: ignore[call-arg]
            lambda: child(context),  # type: ignore[call-arg]
            lambda: line(5),
            lambda: line(context, 1, 2),
            lambda: line(context, id="mine"),
        ]
        return [refused(call) for call in calls]

    assert Local().run(flow).output == [
        "workflow 'child' takes the context first: child(context, name, count)",
        "the input of workflow 'child': got an unexpected keyword argument 'cnt'",
        "the input of workflow 'child': missing a required argument: 'name'",
        "workflow 'line' takes the context first: line(context, inputs)",
        "the input of workflow 'line': too many positional arguments",
        "the input of workflow 'line': got an unexpected keyword argument 'id'",
    ]


@step
async def look(context: Context, inputs: Any) -> Any:
    return {"ok": inputs}


def test_a_timeline_takes_one_input_that_may_be_left_out() -> None:
    @workflow
    def line(wf: Any) -> None:
        wf.timeline(look)

    @workflow
    async def flow(context: Context) -> Any:
        return [await line(context, {"n": 1}), await line(context)]

    assert Local().run(flow).output == [{"n": 1}, None]


def test_what_a_child_returns_has_the_type_of_its_hint(hibernating: bool) -> None:
    @workflow
    async def child(context: Context, id: str) -> list[Order]:
        return [Order(id, 5)]

    @workflow
    async def flow(context: Context) -> Any:
        called = await child(context, "a")
        run = await run_workflow(child, {"id": "b"})
        named = await run_workflow("child", {"id": "c"})
        return [called == [Order("a", 5)], run == [Order("b", 5)], named]

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.output == [True, True, [{"id": "c", "cents": 5}]]


def test_an_output_that_does_not_fit_its_hint_is_refused_with_the_place() -> None:
    @workflow
    async def child(context: Context) -> Order:
        return Order("a", 5)

    @workflow
    async def flow(context: Context) -> Any:
        await child(context)

    failure = Local().replace(child, {"id": "a", "cents": "five"}).run(flow).failure
    assert failure is not None
    assert failure.message == "the output of workflow 'child': .cents: expected an integer, got \"five\""


@workflow
async def slow(context: Context, value: int) -> int:
    await sleep(days(1))
    return value


async def kind_of(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except Failure as failure:
        return [failure.kind, failure.message, failure.retryable]


def test_a_call_does_not_take_over_an_id_that_another_call_or_a_client_has_used(hibernating: bool) -> None:
    @step(retry=1)
    async def start_from_step(context: Context) -> Any:
        return await kind_of(start_workflow(slow, 1, id="one"))

    @workflow
    async def flow(context: Context, value: int) -> Any:
        assert await start_workflow(slow, 1, id="one") == "one"
        return [
            await kind_of(start_workflow(slow, 1, id="one")),
            await kind_of(run_workflow(slow, 1, id="one")),
            await kind_of(start_workflow("slow", 2, id="one")),
            await start_from_step(context),
            # A client has started this one.
            await kind_of(start_workflow(flow, 3, id="local")),
            await kind_of(run_workflow(slow, 4, id="two")),
            # It has ended.
            await kind_of(run_workflow(slow, 4, id="two")),
        ]

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow, 3)

    def taken(id: str) -> list[Any]:
        return ["conflict", f"the execution id `{id}` is taken by another execution", False]

    assert run.output == [*[taken("one")] * 4, taken("local"), 4, taken("two")]
    assert {id: other.output for id, other in run.others.items()} == {"one": 1, "two": 4}


def test_the_next_attempt_of_a_step_finds_the_child_of_the_one_before() -> None:
    @step(retry={"max_attempts": 2, "delay": "1s"})
    async def delegate(context: Context) -> Any:
        started = await start_workflow(slow, 5, id="friend")
        awaited = await run_workflow(slow, 6, id="child")
        if context.attempt == 1:
            raise ConnectionError("again")
        return [started, awaited]

    @workflow
    async def flow(context: Context) -> Any:
        return await delegate(context)

    run = Local().run(flow)
    assert (run.output, run.steps[0].attempts) == (["friend", 6], 2)
    assert set(run.others) == {"friend", "child"}


def test_rounds_of_a_poll_are_different_calls() -> None:
    @step
    async def check(context: Context) -> Any:
        said = await kind_of(start_workflow(slow, 5, id="friend"))
        return not_yet(said) if said == "friend" else ready(said)

    @workflow
    async def flow(context: Context) -> Any:
        return await poll(check, interval="1s")

    assert Local().run(flow).output[0] == "conflict"


def test_a_run_that_goes_on_as_a_new_one_makes_other_calls() -> None:
    @workflow
    async def flow(context: Context, left: int) -> Any:
        said = await kind_of(start_workflow(slow, 5, id="friend"))
        if left:
            await continue_as_new(left - 1)
        return said

    assert Local().run(flow, 1).output[0] == "conflict"


def test_the_same_start_by_a_client_is_one_execution() -> None:
    async def main() -> None:
        world = World()
        first = world.start(world.workflow(slow), '{"value":1}', "one")
        assert world.start(world.workflow(slow), '{"value": 1}', "one") is first
        with pytest.raises(Failure, match="exists with another workflow or input") as caught:
            world.start(world.workflow(slow), '{"value":2}', "one")
        assert caught.value.kind == "conflict"
        await world.end()

    asyncio.run(main())


def test_a_script_starts_executions_as_a_client_does() -> None:
    @workflow
    async def quick(context: Context, value: int) -> int:
        return value

    async def script() -> Any:
        twice = [await run_workflow(quick, 1, id="of-a-script") for _ in range(2)]
        return [*twice, await kind_of(run_workflow(quick, 2, id="of-a-script"))]

    first, again, other = asyncio.run(script())
    assert (first, again, other[0]) == (1, 1, "conflict")


def test_a_workflow_shows_the_signature_of_its_function() -> None:
    assert list(inspect.signature(slow).parameters) == ["context", "value"]
