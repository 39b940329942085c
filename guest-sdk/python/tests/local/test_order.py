"""Whether a rerun finds tasks in the same order, and whether a program that never waits comes to an end."""

import asyncio
from collections.abc import Iterable

import pytest

from cerebelum import Context, sleep, step, workflow
from cerebelum.testing import Local
from cerebelum.workflows import Workflow

ROUNDS = 10


@step
async def work(context: Context, name: str) -> str:
    await sleep(len(name))
    return name


@workflow
async def as_completed(context: Context, names: list[str]) -> list[str]:
    return [await done for done in asyncio.as_completed([work(context, name) for name in names])]


@workflow
async def as_completed_of_set(context: Context, names: list[str]) -> list[str]:
    tasks = {asyncio.create_task(work(context, name)) for name in names}
    return [await done for done in asyncio.as_completed(tasks)]


@workflow
async def done_sets(context: Context, names: list[str]) -> list[str]:
    done, _ = await asyncio.wait({asyncio.create_task(work(context, name)) for name in names})
    return [await work(context, task.result()) for task in done]


@workflow
async def pending_sets(context: Context, names: list[str]) -> list[str]:
    pending: set[asyncio.Task[str]] = {asyncio.create_task(work(context, name)) for name in names}
    seen = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        seen += [await work(context, task.result()) for task in done]
    return seen


@workflow
async def futures_in_dicts_and_sets(context: Context, names: list[str]) -> list[str]:
    loop = asyncio.get_running_loop()
    waiting = {loop.create_future(): name for name in names}
    for future in set(waiting):
        future.set_result(waiting[future])
    return [await work(context, await future) for future in set(waiting)]


@workflow
async def groups(context: Context, names: list[str]) -> list[str]:
    gathered = await asyncio.gather(*(work(context, name) for name in names))
    return [await work(context, name) for name in gathered]


ORDERS = (as_completed, as_completed_of_set, done_sets, pending_sets, futures_in_dicts_and_sets, groups)


@pytest.mark.parametrize("flow", ORDERS, ids=lambda flow: flow.name)
def test_what_stands_in_a_set_is_no_divergence(flow: Workflow) -> None:
    names = [f"{'x' * (number * 7 % 5)}{number}" for number in range(12)]
    for _ in range(ROUNDS):
        run = Local().hibernating().run(flow, names)
        assert sorted(run.output) == sorted(names)


@pytest.mark.parametrize(
    "flow", [flow for flow in ORDERS if flow is not futures_in_dicts_and_sets], ids=lambda f: f.name
)
def test_a_test_goes_the_same_way_each_time(flow: Workflow) -> None:
    names = [f"n{number}" for number in range(12)]
    outputs = [Local().run(flow, names).output for _ in range(ROUNDS)]
    assert all(output == outputs[0] for output in outputs)


async def spin(until: Iterable[asyncio.Task[None]]) -> None:
    while not all(task.done() for task in until):  # noqa: ASYNC110
        await asyncio.sleep(0)


@workflow
async def spins(context: Context, _: int) -> None:
    await spin([asyncio.create_task(asyncio.sleep(5))])


@workflow
async def spins_beside(context: Context, _: int) -> None:
    beside = asyncio.create_task(spin([asyncio.create_task(asyncio.sleep(5))]))
    await sleep(10)
    await beside


@step
async def spinning(context: Context) -> None:
    await spin([asyncio.create_task(asyncio.sleep(5))])


@workflow
async def spins_in_a_step(context: Context, _: int) -> None:
    await spinning(context)


@pytest.mark.parametrize("flow", [spins, spins_beside, spins_in_a_step], ids=lambda flow: flow.name)
@pytest.mark.parametrize("local", [Local(), Local().hibernating()], ids=["straight", "hibernating"])
def test_a_program_that_never_waits_is_ended(flow: Workflow, local: Local) -> None:
    failure = local.run(flow, 1).failure
    assert failure is not None
    assert failure.kind == "cpu-limit"


@workflow
async def busy(context: Context, rounds: int) -> int:
    for _ in range(rounds):
        await asyncio.sleep(0)
    for number in range(rounds):
        await work(context, str(number))
    return rounds


@pytest.mark.parametrize("local", [Local(), Local().hibernating()], ids=["straight", "hibernating"])
def test_a_program_that_gives_way_often_is_left_alone(local: Local) -> None:
    assert local.run(busy, 200).output == 200


@workflow
async def broken(context: Context, _: int) -> None:
    raise KeyError("b")


@pytest.mark.parametrize("local", [Local(), Local().hibernating()], ids=["straight", "hibernating"])
def test_a_traceback_begins_with_the_author_s_code(local: Local) -> None:
    failure = local.run(broken, 1).failure
    assert failure is not None
    first, second = str(failure.details["traceback"]).splitlines()[:2]
    assert first.startswith("Traceback")
    assert __file__ in second
    assert "no running event loop" not in failure.details["traceback"]
