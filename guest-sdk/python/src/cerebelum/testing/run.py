"""The record of a run in a test."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _values
from .._local import outcome
from .._local.executions import moment
from ..results import ExecutionResult, FailureInfo

if TYPE_CHECKING:
    from .._local.executions import Execution
    from .._local.stepping import StepRun
    from .world import Stage


class LogLine(NamedTuple):
    """A line that a workflow or step logged."""

    name: str
    level: str
    message: str


class Progress(NamedTuple):
    """A report of progress by a workflow or step."""

    name: str
    percent: int
    message: str


class StepCall(NamedTuple):
    """One call of a step, all its attempts together."""

    name: str
    input: Any
    attempts: int
    # None when it failed, or was cancelled.
    output: Any
    failure: FailureInfo | None
    began: datetime
    # None when it was cancelled before it ended.
    ended: datetime | None
    execution_id: str


class Run:
    """The result of a run."""

    def __init__(self, stage: Stage, execution: Execution) -> None:
        self._execution = execution
        self.result: ExecutionResult = execution.result()
        # `completed`, `failed`, `cancelled`; or `waiting`, when nothing in the test brings about what it waits for.
        self.status = "waiting" if stage.is_stuck else self.result.status
        self.failure: FailureInfo | None = self.result.failure
        # How long it took, by the virtual clock.
        self.elapsed = timedelta(milliseconds=(execution.ended_ms or execution.began_ms) - execution.began_ms)
        # How many runs it took: one, and one more for each continue_as_new.
        self.runs = execution.run
        # Calls of steps, in the order in which they began.
        self.steps = [_step(step) for step in stage.steps]
        self.logs = [LogLine(*line) for line in stage.logs]
        self.progress = [Progress(*report) for report in stage.progress]
        self.attributes = {name: _values.decode(text, Any, name) for name, text in execution.attributes.items()}
        # Executions that were started besides, children included.
        self.others = {id: other.result() for id, other in stage.executions.items() if other is not execution}

    @property
    def output(self) -> Any:
        """What the workflow returned.

        # Raises
        ExecutionError when it did not complete.
        """
        return outcome(self._execution).output

    def calls(self, step: Any) -> list[Any]:
        """The inputs of all calls of a step, which is given itself or by name."""
        name = step if isinstance(step, str) else step.name
        return [call.input for call in self.steps if call.name == name]

    def __repr__(self) -> str:
        what = self.result.output if self.failure is None else f"{self.failure.kind}: {self.failure.message}"
        return f"<run {self.status} after {self.elapsed}: {what!r}>"


def _step(run: StepRun) -> StepCall:
    failure = run.failure
    return StepCall(
        name=run.step,
        input=_values.decode(run.input, Any, "a step's input"),
        attempts=run.attempts,
        output=None if run.output is None else _values.decode(run.output, Any, "a step's output"),
        failure=FailureInfo(failure.kind, failure.message, failure.details, failure.retryable) if failure else None,
        began=moment(run.began_ms),
        ended=None if run.ended_ms is None else moment(run.ended_ms),
        execution_id=run.execution_id,
    )
