"""Calls of steps and workflows, of this program or by name."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, TypeVar, overload

from . import _values
from ._host import current
from .durations import Duration
from .errors import Failure, typed
from .steps import RetryOption, call_by_text, options_of
from .workflows import AnyWorkflow, Workflow

R = TypeVar("R")


async def call_step(
    step: str,
    input: Any = None,
    *,
    retry: RetryOption | None = None,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
) -> Any:
    """Runs a step that is known by name: one of this program, or `component/step` of another one in any language.

    # Raises
    StepError when it fails for good.
    """
    text = _values.encode(input, f"the input of step '{step}'")
    output = await call_by_text(step, step, text, options_of(step, retry, timeout, deadline))
    return _values.decode(output, Any, f"the output of step '{step}'")


@overload
async def run_workflow(workflow: Workflow[..., R], input: Any = None, *, id: str | None = None) -> R: ...


@overload
async def run_workflow(workflow: str, input: Any = None, *, id: str | None = None) -> Any: ...


async def run_workflow(workflow: AnyWorkflow | str, input: Any = None, *, id: str | None = None) -> Any:
    """Runs a workflow as a child and yields its output; it is cancelled with this one.

    # Raises
    Failure when the child fails; of kind `conflict` when an execution that another call or a client started has its id.
    """
    name = workflow if isinstance(workflow, str) else workflow.name
    text = _values.encode(input, f"the input of workflow '{name}'")
    if not isinstance(workflow, str):
        return await workflow.call(text, id)
    try:
        output = await current().run_workflow(workflow, text, id)
    except Failure as failure:
        raise typed(failure) from None
    return _values.decode(output, Any, f"the output of workflow '{name}'")


async def start_workflow(workflow: AnyWorkflow | str, input: Any = None, *, id: str | None = None) -> str:
    """Starts an execution that outlives this one and yields its id.

    # Raises
    Failure of kind `conflict` when an execution that another call or a client started has that id.
    """
    name = workflow if isinstance(workflow, str) else workflow.name
    return await current().start_workflow(workflow, _values.encode(input, f"the input of workflow '{name}'"), id)


async def continue_as_new(input: Any = None) -> NoReturn:
    """Ends this run and starts the same workflow anew, under the same id and with an empty history. Workflows only.

    # Raises
    Failure when that is refused.
    """
    await current().continue_as_new(_values.encode(input, "the next run's input"))
    await asyncio.Future()
    raise AssertionError("a run that continues as new receives no further outcome")
