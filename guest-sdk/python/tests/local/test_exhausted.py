"""A poll or retry inside a step that has used up its attempts ends the step: its policy does not multiply them."""

from typing import Any

import pytest

from cerebelum import Context, Failure, poll, retry, step
from cerebelum.errors import ContextError
from cerebelum.steps import Step
from cerebelum.testing import Local

TRIED: list[int] = []


@pytest.fixture(autouse=True)
def _none_tried() -> None:
    TRIED.clear()


def never() -> bool:
    TRIED.append(1)
    return False


class Closed(Exception):
    __slots__ = ()


def failing(error: BaseException) -> Any:
    def fail() -> None:
        TRIED.append(1)
        raise error

    return fail


@step
async def polls(context: Context) -> Any:
    return await poll(never, interval=1000, max_attempts=30)


@step
@poll(condition=bool, interval=1, max_attempts=30)
async def polls_by_decorator(context: Context) -> bool:
    return never()


@step
async def polls_until_late(context: Context) -> Any:
    return await poll(never, interval=1000, max_attempts=1000, timeout=29_500)


@step
async def retries(context: Context) -> Any:
    return await retry(failing(ConnectionError("away")), max_attempts=30)


@step
async def retries_a_failure(context: Context) -> Any:
    return await retry(failing(Failure("away", kind="away")), max_attempts=30)


@step
async def retries_a_slotted_error(context: Context) -> Any:
    return await retry(failing(Closed("away")), max_attempts=30)


@pytest.mark.parametrize(
    "called",
    [polls, polls_by_decorator, polls_until_late, retries, retries_a_failure, retries_a_slotted_error],
    ids=lambda called: called.name,
)
def test_what_is_exhausted_is_not_tried_again(called: Step[Any, Any]) -> None:
    run = Local().run_step(called)
    assert run.failure is not None
    assert not run.failure.retryable
    assert len(TRIED) == 30


@step
async def picky(context: Context) -> Any:
    return await retry(failing(KeyError("b")), max_attempts=30, on_error=ConnectionError)


def test_an_error_that_a_retry_does_not_take_is_the_step_s_affair() -> None:
    assert Local().run_step(picky).failure is not None
    assert len(TRIED) == 3


@step
async def hopeless(context: Context) -> Any:
    failing(ContextError("no threads here"))()


def test_what_a_component_does_not_have_is_tried_once() -> None:
    run = Local().run_step(hopeless)
    assert run.failure is not None
    assert run.failure.message == "no threads here"
    assert len(TRIED) == 1
