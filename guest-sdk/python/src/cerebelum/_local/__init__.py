"""Local mode: workflows in this process, with nothing else installed and no engine.

What differs from an engine: nothing is stored, so that the end of the process is the end of its executions; and time,
randomness and threads are those of CPython.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _values
from .._states import ExecutionState
from ..errors import ExecutionError, Failure
from ..results import ExecutionResult
from .executions import Execution
from .interrupts import interruptible
from .people import Asked
from .world import World

if TYPE_CHECKING:
    from .._host import Host
    from ..workflows import AnyWorkflow

__all__ = ["Asked", "anonymous", "execute"]


async def execute(
    workflow: AnyWorkflow,
    inputs: Any,
    *,
    execution_id: str | None = None,
    approve: Callable[..., Any] | None = None,
    signals: Mapping[str, Any] | None = None,
) -> ExecutionResult:
    """Runs a workflow to its end. Executions that it started on their own are waited for as well.

    Args:
        workflow: what to run.
        inputs: what it is given.
        execution_id: its id; drawn when left out. Idempotency keys follow from it.
        approve: is handed an `Asked` and returns True, False, the answer or `Approved(…)`; may be async, and may take
            its time. Without it the terminal is asked.
        signals: name to data, or to a list of data.

    # Raises
    ExecutionError when it fails; CancelledError when this is cancelled, after the workflow has cleaned up.
    """
    if workflow.is_timeline:
        # A wrong input is the caller's mistake, not the execution's failure: it is raised unchanged.
        _ = workflow.definition
    text = _values.encode(inputs, f"the input of workflow '{workflow.name}'")
    world = World(approve)
    try:
        target = world.workflow(workflow)
        execution = world.start(target, text, execution_id)
    except Failure as failure:
        raise ValueError(failure.message) from None
    send_all(execution, signals or {})
    try:
        with interruptible():
            await until_ended(world, execution)
    finally:
        await world.end()
    return outcome(execution)


def send_all(execution: Execution, signals: Mapping[str, Any]) -> None:
    """Sends signals: for each name its data, or each of a list of data."""
    for name, data in signals.items():
        for each in data if isinstance(data, list) else [data]:
            execution.signals.send(name, _values.encode(each, f"signal '{name}'"))


async def until_ended(world: World, execution: Execution) -> None:
    """Waits for the end of an execution, and of those that are not waited for elsewhere."""
    try:
        await execution.ended()
        while others := [other for other in world.executions.values() if other.status == ExecutionState.RUNNING]:
            await asyncio.wait({asyncio.ensure_future(other.ended()) for other in others})
    except asyncio.CancelledError:
        for running in list(world.executions.values()):
            running.cancel()
        for running in list(world.executions.values()):
            await running.ended()
        raise
    for other in world.executions.values():
        is_awaited = other.started_by is not None and other.started_by.is_awaited
        if other.failure is not None and other is not execution and not is_awaited:
            logging.getLogger("cerebelum").warning("execution %s %s: %s", other.id, other.status, other.failure.message)


def outcome(execution: Execution) -> ExecutionResult:
    """How an execution ended.

    # Raises
    ExecutionError unless it completed.
    """
    result = execution.result()
    if execution.failure is None:
        return result
    error = ExecutionError(execution.failure.message, execution.failed_step(), result.failure, result)
    raise error from execution.failure.__cause__


def anonymous() -> Host:
    """The host of code outside of any workflow: helpers work there too."""
    from .outside import OUTSIDE

    return OUTSIDE
