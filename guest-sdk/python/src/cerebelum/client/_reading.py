"""Conversions from messages of the protocol to records."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from .._proto import engine_pb2 as pb
from .._states import ExecutionState
from ..results import FailureInfo
from . import records
from ._json import decode

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def status(message: pb.ExecutionStatus) -> records.ExecutionStatus:
    """An execution in full."""
    return records.ExecutionStatus(
        **_summary_fields(message.summary) | {"failure": _failure(message)},
        inputs=decode(message.input),
        output=decode(message.output),
        waiting_on=tuple(map(_waiting_on, message.waiting_on)),
        progress=tuple(map(_progress, message.progress)),
        steps=tuple(map(_step, message.steps)),
        earlier_events=message.earlier_events,
        unread_signals=tuple(message.unread_signals),
    )


def summary(message: pb.Summary) -> records.ExecutionSummary:
    """An execution as a list shows it."""
    return records.ExecutionSummary(**_summary_fields(message))


def page(message: pb.ListResponse) -> records.ExecutionPage:
    """A page of executions."""
    cursor = message.next if message.HasField("next") else None
    return records.ExecutionPage(tuple(map(summary, message.executions)), cursor)


def approval(message: pb.Approval) -> records.ApprovalInfo:
    """A question to a person."""
    return records.ApprovalInfo(
        approval_id=message.approval_id,
        execution_id=message.execution_id,
        kind=message.kind,
        title=message.title,
        data=decode(message.data),
        schema=decode(message.schema),
        requested_at=_moment(message.requested_at),
        deadline=_optional_moment(message, "deadline"),
        state=message.state,
        approvers=tuple(message.approvers),
    )


def event(message: pb.Event) -> records.Event:
    """One event."""
    return records.Event(
        position=message.position,
        time=_moment(message.time),
        kind=message.kind,
        scope=message.scope,
        fields=decode(message.fields) or {},
    )


def log_line(message: pb.LogLine) -> records.LogLine:
    """One log line."""
    return records.LogLine(
        seq=message.seq,
        time=_moment(message.time),
        level=message.level,
        scope=message.scope,
        attempt=message.attempt,
        text=message.text,
    )


def component(message: pb.Component) -> records.ComponentInfo:
    """A component."""
    return records.ComponentInfo(
        name=message.name,
        digest=message.digest,
        workflows=tuple(message.workflows),
        steps=tuple(message.steps),
        capabilities=tuple(message.capabilities),
        size=message.size,
        uploaded_at=_moment(message.uploaded_at),
        current=message.current,
    )


def _summary_fields(message: pb.Summary) -> dict[str, Any]:
    return {
        "execution_id": message.execution_id,
        "workflow": message.workflow,
        "digest": message.digest,
        "state": ExecutionState(message.status),
        "attributes": decode(message.attributes) or {},
        "started_at": _moment(message.started_at),
        "ended_at": _optional_moment(message, "ended_at"),
        "run": message.run,
        "events": message.events,
        "parent": message.parent if message.HasField("parent") else None,
        "waits_for": _waiting_on(message.waits_for) if message.HasField("waits_for") else None,
        "other_waits": message.other_waits,
        "failure": _failure(message),
        "runs_from": message.runs_from if message.HasField("runs_from") else None,
    }


def _waiting_on(message: pb.WaitingOn) -> records.WaitingOn:
    return records.WaitingOn(
        kind=message.kind,
        name=message.name,
        scope=message.scope,
        since=_moment(message.since),
        until=_optional_moment(message, "until"),
        attempts=message.attempts if message.HasField("attempts") else None,
        last=decode(message.last),
    )


def _progress(message: pb.Progress) -> records.Progress:
    return records.Progress(message.name, message.scope, message.percent, message.message)


def _step(message: pb.Step) -> records.StepStatus:
    return records.StepStatus(
        name=message.name,
        scope=message.scope,
        status=message.status,
        attempt=message.attempt,
        started_at=_moment(message.started_at),
        ended_at=_optional_moment(message, "ended_at"),
        output=decode(message.output),
        failure=_failure(message),
    )


def _failure(message: pb.ExecutionStatus | pb.Summary | pb.Step) -> FailureInfo | None:
    if not message.HasField("failure"):
        return None
    failure = message.failure
    return FailureInfo(failure.kind, failure.message, decode(failure.details), failure.retryable)


def _optional_moment(message: Any, name: str) -> datetime | None:
    return _moment(getattr(message, name)) if message.HasField(name) else None


def _moment(stamp: pb.Timestamp) -> datetime:
    # Not `fromtimestamp`, whose float loses the last millisecond.
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)
