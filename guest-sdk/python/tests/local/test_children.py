"""Workflows as children: their arguments, the types of their outputs, and their ids."""

from __future__ import annotations

from collections.abc import Callable
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
from cerebelum.testing import Local


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
