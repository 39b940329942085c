"""The snippets that start workflows on an engine, on a real one; it runs components that are built from them."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from seed_trial import Trial, definitions

from cerebelum import DistributedExecutor, ExecutionClient, ExecutionState, Worker

DAY_S = 24 * 3600
STEPS = '''"""A program of the original documents, with what they do not show."""
from datetime import timedelta
from cerebelum import Context, sleep, step, workflow
'''
STEP = """
@step
async def {0}(context: Context) -> str:
    return "{0} is done"
"""


@dataclass
class Engine:
    """Where it is, and what was brought to it last: building takes its time."""

    address: str
    folder: Path
    deployed: ClassVar[dict[str, str]] = {}

    async def deploy(self, text: str, *steps: str) -> object:
        """Makes a component of what a snippet defines and uploads it; its `my_workflow` is returned."""
        program = STEPS + "".join(STEP.format(name) for name in steps) + definitions(text)
        source = self.folder / "my_workflow.py"
        source.write_text(program)
        spec = importlib.util.spec_from_file_location("my_workflow", source)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["my_workflow"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if self.deployed.get(self.address) != program:
            async with Worker(core_url=self.address) as worker:
                worker.register_workflow(module.my_workflow)
                assert [component.name for component in await worker.deploy()] == ["my_workflow"]
            self.deployed[self.address] = program
        workflow: object = module.my_workflow
        return workflow


TWO_STEPS = """
@workflow
def my_workflow(wf):
    wf.timeline(step1 >> step2)
"""


async def a_worker_and_an_executor(trial: Trial, engine: Engine) -> None:
    trial.names.update(my_workflow=await engine.deploy(TWO_STEPS, "step1", "step2"), inputs={"user_id": 123})
    async with DistributedExecutor(engine.address) as executor:
        trial.names["executor"] = executor
        await trial.run()
    assert trial["result"].output == "step2 is done"
    # It took the file that defines the workflow; `deploy` would upload what is there already.
    assert [source.name for source in trial["worker"]._sources] == ["my_workflow.py"]


async def two_steps_on_an_engine(trial: Trial, engine: Engine) -> None:
    await engine.deploy(trial.text, "step1", "step2")
    await trial.run()
    assert (trial["result"].status, trial["result"].output) == ("completed", "step2 is done")


async def an_executor_by_address(trial: Trial, engine: Engine) -> None:
    await engine.deploy(TWO_STEPS, "step1", "step2")
    await trial.run()
    assert trial["result"].output == "step2 is done"


async def a_day_between_deploy_and_verify(trial: Trial, engine: Engine) -> None:
    await engine.deploy(trial.text, "deploy", "verify")
    trial.names["inputs"] = {"version": "1.2"}
    waiting = asyncio.ensure_future(trial.run())
    async with ExecutionClient(engine.address) as client:
        sleeping = await asyncio.wait_for(_sleeping(client), 60)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert sleeping == pytest.approx(DAY_S, abs=60)


async def _sleeping(client: ExecutionClient) -> float:
    """Seconds that the execution of `my_workflow` still sleeps, once it does."""
    while True:
        page = await client.list_executions(workflow_name="my_workflow/my_workflow")
        for found in page.executions:
            status = await client.get_execution_status(found.execution_id)
            if status.state is ExecutionState.SLEEPING and status.sleep_info is not None:
                return status.sleep_info.remaining_seconds
        await asyncio.sleep(0.05)


ON_ENGINE: dict[str, Callable[[Trial, Engine], Coroutine[Any, Any, None]]] = {
    "S0.4": a_worker_and_an_executor,
    "S3.2": two_steps_on_an_engine,
    "S3.3": an_executor_by_address,
    # Last, as it is the one with another program.
    "S1.4": a_day_between_deploy_and_verify,
}
