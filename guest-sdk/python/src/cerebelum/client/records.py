"""Executions with their steps, waits and approvals, as plain records. Datetimes are aware, in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .._states import ExecutionState
from ..results import FailureInfo

ACTIVE = (
    ExecutionState.RUNNING,
    ExecutionState.SLEEPING,
    ExecutionState.WAITING_FOR_APPROVAL,
    ExecutionState.WAITING,
    ExecutionState.PAUSED,
    ExecutionState.PARKED,
)
"""The states of executions that have not ended."""


@dataclass(frozen=True)
class WaitingOn:
    """Something an execution waits for."""

    kind: str
    """`sleep`, `approval`, `signal`, `retry`, `poll`, `step`, `fetch`, `child` or `start`."""
    name: str
    """The step's, signal's, approval's … name."""
    scope: str
    """The scope that waits: empty for the workflow, else the call numbers that lead to the step, such as `2.1`."""
    since: datetime
    until: datetime | None
    """When it ends at the latest, if time alone ends it."""
    attempts: int | None
    """Checks or attempts so far, where they are counted."""
    last: Any
    """The last value that a poll saw."""


@dataclass(frozen=True)
class SleepInfo:
    """A sleep under way."""

    scope: str
    """The scope that sleeps; see `WaitingOn.scope`."""
    started_at: datetime
    until: datetime

    @property
    def duration_seconds(self) -> float:
        """How long it is from end to end."""
        return (self.until - self.started_at).total_seconds()

    @property
    def remaining_seconds(self) -> float:
        """How much of it is left now, by this machine's clock; never negative."""
        return _seconds_until(self.until)


@dataclass(frozen=True)
class Progress:
    """The progress that a scope reported."""

    name: str
    """The step's name, or the workflow's for the workflow itself."""
    scope: str
    """Whose; see `WaitingOn.scope`."""
    percent: int
    message: str


@dataclass(frozen=True)
class StepStatus:
    """One step call."""

    name: str
    scope: str
    """Its place; see `WaitingOn.scope`."""
    status: str
    """`running`, `waiting`, `completed`, `failed` or `cancelled`."""
    attempt: int
    """Which attempt, from 1."""
    started_at: datetime
    ended_at: datetime | None
    output: Any
    """What it returned; the engine may have dropped it once it was no longer needed."""
    failure: FailureInfo | None
    """Why it failed, or why its last attempt did."""

    @property
    def duration_seconds(self) -> float | None:
        """How long it took, once it has ended."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None

    @property
    def error(self) -> str | None:
        """Why it, or its last attempt, failed, in one line."""
        return self.failure.message if self.failure else None

    @property
    def is_inner(self) -> bool:
        """Whether another step called it."""
        return "." in self.scope


@dataclass(frozen=True)
class ExecutionSummary:
    """An execution as a list shows it."""

    execution_id: str
    workflow: str
    """`component/workflow`."""
    digest: str
    """The content address of the component it is pinned to."""
    state: ExecutionState
    attributes: dict[str, Any]
    started_at: datetime
    ended_at: datetime | None
    run: int
    """Which run this is, from 1; continue-as-new counts it up."""
    events: int
    """How many events its history has."""
    parent: str | None
    """The execution that started it."""
    waits_for: WaitingOn | None
    """What it waits for: of several calls, the one that matters most to a person. None while it works or is held, and
    once it has ended. A long name is cut, and a poll has no last value."""
    other_waits: int
    """How many other calls it waits for, without the steps and requests that are under way."""
    failure: FailureInfo | None
    """Why it failed or is parked. In a list it is short: the beginning of the message, and of an exception its type in
    the details."""
    runs_from: int | None
    """The first run whose history and log lines are kept, if earlier ones were removed."""

    @property
    def workflow_name(self) -> str:
        """The workflow's name without its component's."""
        return self.workflow.rsplit("/", 1)[-1]

    @property
    def completed_at(self) -> datetime | None:
        """When it ended, however it did."""
        return self.ended_at

    @property
    def error(self) -> str | None:
        """Why it failed, was cancelled or is parked, in one line."""
        return self.failure.message if self.failure else None

    @property
    def has_ended(self) -> bool:
        """Whether it has completed, failed or been cancelled."""
        return self.ended_at is not None

    @property
    def elapsed_seconds(self) -> float:
        """From its start to its end, or to now by this machine's clock; never negative."""
        until = self.ended_at or datetime.now(timezone.utc)
        return max(0.0, (until - self.started_at).total_seconds())


@dataclass(frozen=True)
class ExecutionStatus(ExecutionSummary):
    """An execution in full, with the whole failure, also of one that was cancelled."""

    inputs: Any
    output: Any
    """What the workflow returned, when it completed."""
    waiting_on: tuple[WaitingOn, ...]
    progress: tuple[Progress, ...]
    steps: tuple[StepStatus, ...]
    """Its step calls in the order of their places, inner ones after the step that called them. Of a history of more
    than 10,000 events or 4 MiB, those that are open or among its end."""
    earlier_events: int = 0
    """How many events came before that end."""
    unread_signals: tuple[str, ...] = ()
    """The names of signals that it has not read."""

    @property
    def completed_steps(self) -> tuple[StepStatus, ...]:
        """The steps that completed."""
        return tuple(step for step in self.steps if step.status == "completed")

    @property
    def current_step_name(self) -> str | None:
        """The step under way that was called last, if there is one."""
        open_steps = [step for step in self.steps if step.ended_at is None and not step.is_inner]
        return open_steps[-1].name if open_steps else None

    @property
    def failed_step(self) -> StepStatus | None:
        """The step whose failure is the execution's own, if a step caused it."""
        if self.failure is None:
            return None
        reason = (self.failure.kind, self.failure.message)
        same = [step for step in self.steps if step.failure and reason == (step.failure.kind, step.failure.message)]
        outer = [step for step in same if step.status == "failed" and not step.is_inner]
        return outer[-1] if outer else None

    @property
    def progress_percentage(self) -> float:
        """The progress, 0 to 100: the workflow's own report, else the mean over the steps called so far.

        A completed step counts 100, another one its own report, else 0. The number of steps still to come is unknown,
        so without a report of the workflow this may go down.
        """
        if self.state is ExecutionState.COMPLETED:
            return 100.0
        percents = {progress.scope: float(progress.percent) for progress in self.progress}
        if "" in percents:
            return percents[""]
        steps = [step for step in self.steps if not step.is_inner]
        shares = [100.0 if step.status == "completed" else percents.get(step.scope, 0.0) for step in steps]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def sleep_info(self) -> SleepInfo | None:
        """The sleep under way that ends first, if there is one."""
        sleeps = [
            SleepInfo(scope=wait.scope, started_at=wait.since, until=wait.until)
            for wait in self.waiting_on
            if wait.kind == "sleep" and wait.until is not None
        ]
        return min(sleeps, key=lambda sleep: sleep.until, default=None)


@dataclass(frozen=True)
class ExecutionPage:
    """A page of executions, the newest first."""

    executions: tuple[ExecutionSummary, ...]
    next: str | None
    """The cursor of the next page; `None` on the last one."""

    def __iter__(self) -> Iterator[ExecutionSummary]:
        return iter(self.executions)

    def __len__(self) -> int:
        return len(self.executions)


@dataclass(frozen=True)
class ApprovalInfo:
    """A question to a person."""

    approval_id: str
    execution_id: str
    """Who asks."""
    kind: str
    """Its sort, `manual` unless the author has more than one."""
    title: str
    """What is asked."""
    data: Any
    """The data for the person to look at."""
    schema: Any
    """JSON Schema of the answer, if there is one."""
    requested_at: datetime
    deadline: datetime | None
    """The deadline of the question."""
    state: str
    """`open`, `approved`, `rejected`, `timed-out` or `withdrawn`."""
    approvers: tuple[str, ...] = ()
    """Names, and roles as `role:ROLE`, of those who may answer; empty if every caller with that right may."""

    @property
    def remaining_seconds(self) -> float | None:
        """How long it stays open, by this machine's clock; never negative; `None` without a deadline."""
        return _seconds_until(self.deadline) if self.deadline else None


@dataclass(frozen=True)
class Event:
    """One event of a history."""

    position: int
    """Its place, from 1 without gaps."""
    time: datetime
    kind: str
    """A past-tense word: `ExecutionStarted`, `StepCompleted`, …"""
    scope: str
    fields: dict[str, Any]
    """Everything else."""


@dataclass(frozen=True)
class LogLine:
    """One log line."""

    seq: int
    """Its number; reading resumes after it."""
    time: datetime
    level: str
    """`debug`, `info`, `warn` or `error`."""
    scope: str
    attempt: int
    text: str


@dataclass(frozen=True)
class ComponentInfo:
    """A component that the engine knows."""

    name: str
    digest: str
    """Its content address, 64 hex digits."""
    workflows: tuple[str, ...]
    steps: tuple[str, ...]
    capabilities: tuple[str, ...]
    """The grants that it needs: `http:HOST`, `secret:NAME`."""
    size: int
    """In bytes."""
    uploaded_at: datetime
    current: bool
    """Whether new executions use it."""


def _seconds_until(moment: datetime) -> float:
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
