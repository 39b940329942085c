"""An engine is killed with -9 while programs wait for it: they notice nothing but the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from engine_process import EngineProcess, component

from cerebelum.client import (
    DistributedExecutor,
    EngineUnreachable,
    ExecutionClient,
    ExecutionState,
    ExecutionStatus,
    NotFound,
)

pytestmark = pytest.mark.asyncio

StartEngine = Callable[[], EngineProcess]


async def with_guests(engine: EngineProcess) -> None:
    """Uploads what these tests run."""
    async with ExecutionClient(engine.address) as client:
        await client.upload(component("test-guests"))


async def noticed_loss(client: ExecutionClient) -> None:
    """Returns when the client's connection is lost, and with it every call under way."""
    with pytest.raises(EngineUnreachable, match="lost the engine"):
        await client.components()


async def test_a_wait_outlasts_a_killed_engine(mortal_engines: StartEngine) -> None:
    engine = mortal_engines()
    await with_guests(engine)
    async with ExecutionClient(engine.address) as client:
        execution = await client.start("listening", {"names": ["go"]})
        waiting = asyncio.create_task(execution.result())
        await reached(client, execution.execution_id, ExecutionState.WAITING)
        engine.kill()
        await noticed_loss(client)
        assert not waiting.done()
        engine.start()
        # The client finds the engine again by itself; a call in between may still meet the loss.
        await answered(client)
        await execution.signal("go", 2**53 + 1)
        assert (await waiting).output == [2**53 + 1]


async def test_a_watch_and_a_follower_of_logs_outlast_a_killed_engine(mortal_engines: StartEngine) -> None:
    engine = mortal_engines()
    await with_guests(engine)
    async with ExecutionClient(engine.address) as client:
        execution = await client.start("telling", 1_500)
        watching = asyncio.create_task(told(client, execution.execution_id))
        reading = asyncio.create_task(lines(client, execution.execution_id))
        await reached(client, execution.execution_id, ExecutionState.SLEEPING)
        engine.kill()
        await noticed_loss(client)
        engine.start()
        seen = await watching
        assert seen[-1].state is ExecutionState.COMPLETED
        assert all(one != other for one, other in pairwise(seen)), "something was told twice"
        assert await reading == ["first line", "second line"]


async def test_an_executor_brings_the_output_over_a_killed_engine(mortal_engines: StartEngine) -> None:
    engine = mortal_engines()
    await with_guests(engine)
    async with DistributedExecutor(engine.address) as executor:
        await executor.client.components()
        executing = asyncio.create_task(executor.execute("listening", {"names": ["go"]}, execution_id="over"))
        await reached(executor.client, "over", ExecutionState.WAITING)
        engine.kill()
        await noticed_loss(executor.client)
        engine.start()
        await answered(executor.client)
        await executor.client.signal("over", "go", "on")
        result = await executing
        assert (result.execution_id, result.status, result.output) == ("over", "completed", ["on"])


async def test_a_start_is_repeated_until_the_engine_is_back(mortal_engines: StartEngine) -> None:
    engine = mortal_engines()
    await with_guests(engine)
    async with ExecutionClient(engine.address) as client:
        await client.components()
        engine.kill()
        await noticed_loss(client)
        starting = asyncio.create_task(client.start("echo", "here"))
        await noticed_loss(client)
        assert not starting.done()
        engine.start()
        execution = await starting
        assert (await execution.result()).output == "here"
        assert [one.execution_id for one in await client.list_executions("echo")] == [execution.execution_id]


async def test_an_engine_that_stays_away_is_given_up(mortal_engines: StartEngine) -> None:
    engine = mortal_engines()
    await with_guests(engine)
    async with ExecutionClient(engine.address, away_seconds_max=0.5) as client:
        execution = await client.start("listening", {"names": ["go"]})
        waiting = asyncio.create_task(execution.wait())
        await reached(client, execution.execution_id, ExecutionState.WAITING)
        engine.kill()
        begun = time.monotonic()
        with pytest.raises(EngineUnreachable, match=engine.address):
            await waiting
        assert 0.4 < time.monotonic() - begun < 60


async def test_an_engine_that_stops_in_good_order_is_waited_for_too(mortal_engines: StartEngine) -> None:
    engine = mortal_engines()
    await with_guests(engine)
    async with ExecutionClient(engine.address) as client:
        execution = await client.start("listening", {"names": ["go"]})
        waiting = asyncio.create_task(execution.wait())
        watching = asyncio.create_task(told(client, execution.execution_id))
        await reached(client, execution.execution_id, ExecutionState.WAITING)
        engine.stop()
        engine.start()
        await answered(client)
        await execution.signal("go")
        assert (await waiting).state is ExecutionState.COMPLETED
        assert (await watching)[-1].state is ExecutionState.COMPLETED


async def answered(client: ExecutionClient) -> None:
    """Asks until the engine answers again."""
    await within_reason(client.components, EngineUnreachable)


async def within_reason(ask: Callable[[], Awaitable[object]], not_yet: type[Exception]) -> None:
    """Asks until the answer is not this exception any more."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        try:
            await ask()
            return
        except not_yet:
            await asyncio.sleep(0.02)
    raise AssertionError(f"still {not_yet.__name__} after 30 s")


async def reached(client: ExecutionClient, execution_id: str, state: ExecutionState) -> None:
    """Watches an execution, of which the engine may not know yet, until it is in this state."""
    await within_reason(lambda: client.get_execution_status(execution_id), NotFound)
    async for status in client.watch(execution_id):
        if status.state is state:
            return
    raise AssertionError(f"{execution_id} ended without having been {state}")


async def told(client: ExecutionClient, execution_id: str) -> list[ExecutionStatus]:
    """Everything that a watch shows."""
    return [status async for status in client.watch(execution_id)]


async def lines(client: ExecutionClient, execution_id: str) -> list[str]:
    """All log lines until the end."""
    return [line.text async for line in client.logs(execution_id, follow=True)]
