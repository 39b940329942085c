"""Programs that nobody writes on purpose: each ends with a line that says what is wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cerebelum import CerebelumError, Context, Failure, StepError, step, workflow
from cerebelum.errors import StepDefinitionError
from cerebelum.testing import Local


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


class Hollow(Failure):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (Mute(), "exception", "Mute, which cannot say what it is"),
        (Hollow(), "failure", "Hollow"),
        (Failure(123), "failure", "123"),  # type: ignore[arg-type]
        (Failure("x", kind=None), "failure", "x"),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_that_breaks_its_promises_is_a_failure_all_the_same(
    error: Exception, kind: str, message: str
) -> None:
    @step(retry=1)
    async def odd(context: Context) -> None:
        raise error

    failed = Local().run_step(odd)
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.message) == (kind, message)


def test_a_forgotten_context_is_noticed() -> None:
    @step
    async def add(context: Context, n: int = 1, m: int = 2) -> list[int]:
        return [n, m]

    @workflow
    async def forgetful(context: Context) -> list[int]:
        return await add(7, 8)  # type: ignore[arg-type]

    failure = Local().run(forgetful).failure
    assert failure is not None
    assert "step 'add' takes the context first: add(context, n, m)" in failure.message


def test_a_child_without_the_context_is_noticed() -> None:
    @workflow
    async def child(context: Context, n: int = 1) -> int:
        return n

    @workflow
    async def parent(context: Context) -> int:
        return int(await child(7))

    failure = Local().run(parent).failure
    assert failure is not None
    assert "workflow 'child' takes the context first: child(context, n)" in failure.message


def test_none_is_a_value_where_the_hint_has_it_and_left_out_is_the_default() -> None:
    @step
    async def maybe(context: Context, n: int | None = 5) -> int | None:
        return n

    @step
    async def some(context: Context, n: int = 5) -> int:
        return n

    @workflow
    async def both(context: Context) -> list[Any]:
        return [await maybe(context, None), await maybe(context), await some(context), await some(context, 6)]

    assert Local().run(both).output == [None, 5, 5, 6]


def test_a_cancelled_task_that_is_awaited_is_no_cancelled_execution() -> None:
    @step(retry=1)
    async def careless(context: Context) -> None:
        task = asyncio.create_task(asyncio.sleep(1))
        task.cancel()
        await task

    @workflow
    async def careful(context: Context) -> str:
        try:
            await careless(context)
        except StepError as error:
            return f"{error.kind}: {error.message}"
        return "not reached"

    assert Local().run(careful).output == "exception: a task that it awaited was cancelled"


def test_an_attribute_that_is_no_scalar_is_refused_where_it_is_set() -> None:
    @workflow
    async def tagged(context: Context) -> str:
        try:
            context.set_attribute("tags", ["a"])  # type: ignore[arg-type]
        except Failure as failure:
            return failure.kind
        return "taken"

    assert Local().run(tagged).output == "invalid-argument"


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 257])
def test_names_that_cannot_travel_are_refused(name: str) -> None:
    async def body(context: Context) -> None: ...

    for define in (step, workflow):
        with pytest.raises(CerebelumError, match="cannot name a"):
            define(name=name)(body)


def test_a_generator_is_told_that_it_is_one() -> None:
    async def stream(context: Context) -> Any:
        yield 1

    with pytest.raises(StepDefinitionError, match="'yield'"):
        step(stream)


@pytest.mark.parametrize("attempts", [0, 2**32])
def test_attempts_that_cannot_be_counted_are_refused(attempts: int) -> None:
    async def body(context: Context) -> None: ...

    with pytest.raises(StepDefinitionError, match="1 to 4294967295 attempts"):
        step(retry=attempts)(body)
