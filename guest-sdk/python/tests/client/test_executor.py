"""`DistributedExecutor` brings back what a workflow returned, or raises."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from engine_process import EngineProcess

from cerebelum.client import DistributedExecutor, ExecutionClient, NotFound
from cerebelum.errors import ExecutionError


@dataclass
class Named:
    """Something that has a workflow's name."""

    name: str


def test_an_executor_serves_one_event_loop_after_another(engine: EngineProcess) -> None:
    executor = DistributedExecutor(core_url=f"http://{engine.address}/")

    async def execute(value: object) -> object:
        return (await executor.execute(workflow="test-guests/echo", input_data=value)).output

    assert asyncio.run(execute({"n": 2**60 + 1})) == {"n": 2**60 + 1}
    assert asyncio.run(execute([2])) == [2]
    asyncio.run(executor.close())


def test_the_engine_comes_from_the_environment(engine: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEREBELUM_CORE_URL", engine.address)

    async def execute() -> object:
        async with DistributedExecutor() as executor:
            return (await executor.execute(Named("test-guests/echo"), 1)).output

    assert asyncio.run(execute()) == 1


@pytest.mark.asyncio
async def test_the_same_id_is_executed_once(engine: EngineProcess, client: ExecutionClient) -> None:
    async with DistributedExecutor(engine.address) as executor:
        first, second = await asyncio.gather(
            executor.execute("echo", "once", execution_id="py-once"),
            executor.execute("echo", "once", execution_id="py-once"),
        )
    assert first == second
    assert (first.execution_id, first.status, first.output) == ("py-once", "completed", "once")
    assert (await client.get_execution_status("py-once")).run == 1


@pytest.mark.asyncio
async def test_a_failed_execution_raises_with_its_result(engine: EngineProcess) -> None:
    async with DistributedExecutor(engine.address) as executor:
        with pytest.raises(ExecutionError, match="Execution failed at step 'misbehave'") as caught:
            await executor.execute("hostile_step", "?", execution_id="py-raises")
        assert caught.value.result is not None
        assert (caught.value.result.execution_id, caught.value.result.status) == ("py-raises", "failed")
        with pytest.raises(NotFound, match="no-such-workflow"):
            await executor.execute("no-such-workflow")


@pytest.mark.asyncio
async def test_a_bounded_execution_goes_on_after_the_time(engine: EngineProcess, client: ExecutionClient) -> None:
    async with DistributedExecutor(engine.address) as executor:
        with pytest.raises(TimeoutError, match="py-bounded"):
            await executor.execute("listening", {"names": ["go"]}, execution_id="py-bounded", timeout=0.2)
    await client.signal("py-bounded", "go", "late")
    assert (await client.result("py-bounded")).output == ["late"]
