"""Programs that come to nothing: what ends them says where they stand, in the words of their author."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cerebelum import Context, Failure, approval, poll, retry, sleep, step, workflow
from cerebelum.testing import Local, Run, run_virtually


def run(flow: Any, hibernating: bool) -> Run:
    local = Local().hibernating() if hibernating else Local()
    return local.run(flow)


def test_a_deadlock_says_where_its_tasks_wait(hibernating: bool) -> None:
    event = asyncio.Event()

    @workflow
    async def stuck(context: Context) -> None:
        async def wait_for_nothing() -> None:
            await event.wait()

        await asyncio.create_task(wait_for_nothing(), name="inner")

    failure = run(stuck, hibernating).failure
    assert failure is not None
    assert failure.kind == "deadlock"
    told = failure.traceback or ""
    assert told.startswith("Task 'stuck' is here:\n")
    assert "in stuck\n    await asyncio.create_task(wait_for_nothing()" in told
    assert "Task 'inner' is here:\n" in told
    assert "in wait_for_nothing\n    await event.wait()\n" in told
    assert "asyncio/locks.py" not in told


async def spin() -> None:
    timer = asyncio.ensure_future(asyncio.sleep(5))
    while not timer.done():  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_a_spin_says_where_it_is(hibernating: bool) -> None:
    @workflow
    async def spinning(context: Context) -> None:
        await spin()

    failure = run(spinning, hibernating).failure
    assert failure is not None
    assert failure.kind == "cpu-limit"
    assert "in spin\n    await asyncio.sleep(0)\n" in (failure.traceback or "")


def test_a_spin_in_a_bare_program_ends_as_well() -> None:
    with pytest.raises(Failure) as raised:
        run_virtually(spin())
    assert raised.value.kind == "cpu-limit"
    assert "in spin\n    await asyncio.sleep(0)\n" in raised.value.details["traceback"]


def test_a_spin_that_will_not_be_cancelled_ends_as_well() -> None:
    @step(retry=1)
    async def stubborn(context: Context) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    with pytest.raises(Failure) as raised:
        Local().run_step(stubborn)
    assert raised.value.kind == "cpu-limit"


def test_of_many_tasks_some_are_told() -> None:
    @workflow
    async def crowd(context: Context) -> None:
        await asyncio.gather(*(asyncio.Event().wait() for _ in range(50)))

    failure = Local().run(crowd).failure
    assert failure is not None
    assert (failure.traceback or "").endswith("… and 41 more tasks\n")


@step
async def greet(context: Context) -> None: ...


@workflow
async def child(context: Context) -> None: ...


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (greet, "greet"),
        (child, "child"),
        (lambda context: sleep(5), "sleep"),
        (lambda context: approval("Go on?"), "approval"),
        (lambda context: poll(greet), "poll"),
        (lambda context: poll(print), "poll"),
        (lambda context: retry(print), "retry"),
    ],
)
def test_a_call_that_is_never_awaited_is_told_by_its_name(
    call: Callable[[Any], Coroutine[Any, Any, Any]], name: str
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call(None)
        gc.collect()
    assert [str(one.message) for one in told] == [f"coroutine '{name}' was never awaited"]


def test_an_exception_that_nothing_awaits_is_logged_once(hibernating: bool, caplog: pytest.LogCaptureFixture) -> None:

    @workflow
    async def careless(context: Context) -> None:
        async def fail() -> None:
            raise ValueError("boom")

        asyncio.get_running_loop().create_task(fail())
        await sleep(5)
        await sleep(5)

    gc.disable()
    try:
        assert run(careless, hibernating).status == "completed"
    finally:
        gc.enable()
    [record] = caplog.records
    assert record.getMessage().startswith("Task exception was never retrieved")
    assert isinstance((record.exc_info or (None, None))[1], ValueError)
