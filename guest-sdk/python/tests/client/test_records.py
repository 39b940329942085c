"""What records derive from what the engine says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from cerebelum._proto import engine_pb2 as pb
from cerebelum.client import (
    ExecutionState,
    ExecutionStatus,
    FailureInfo,
    Progress,
    StepStatus,
    WaitingOn,
    _reading,
)

START = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc)
RUNNING = ExecutionStatus(
    execution_id="x",
    workflow="shop/order",
    digest="",
    state=ExecutionState.RUNNING,
    attributes={},
    started_at=START,
    ended_at=None,
    run=1,
    events=0,
    parent=None,
    waits_for=None,
    other_waits=0,
    inputs=None,
    output=None,
    failure=None,
    runs_from=None,
    waiting_on=(),
    progress=(),
    steps=(),
)


def step(scope: str, status: str, failure: FailureInfo | None = None) -> StepStatus:
    """A step at a place."""
    ended = None if status in ("running", "waiting") else START
    return StepStatus(f"step-{scope}", scope, status, 1, START, ended, None, failure)


@pytest.mark.parametrize(
    ("steps", "told", "percent"),
    [
        ((), (), 0.0),
        ((), (("", 40),), 40.0),
        ((("1", "completed"),), (("", 40),), 40.0),
        ((("1", "completed"), ("2", "running")), (), 50.0),
        ((("1", "completed"), ("2", "running")), (("2", 66),), 83.0),
        ((("1", "running"), ("1.1", "completed"), ("1.2", "completed")), (("1", 33), ("1.1", 100)), 33.0),
        ((("1", "failed"), ("2", "completed")), (), 50.0),
    ],
)
def test_progress_is_the_workflows_word_or_the_mean_of_its_steps(
    steps: tuple[tuple[str, str], ...], told: tuple[tuple[str, int], ...], percent: float
) -> None:
    progress = tuple(Progress("", scope, share, "") for scope, share in told)
    status = replace(RUNNING, steps=tuple(step(*one) for one in steps), progress=progress)
    assert status.progress_percentage == percent
    assert replace(status, state=ExecutionState.COMPLETED).progress_percentage == 100.0


def test_the_current_step_is_the_outer_one_under_way() -> None:
    steps = (step("1", "completed"), step("2", "waiting"), step("2.1", "running"))
    assert replace(RUNNING, steps=steps).current_step_name == "step-2"
    assert replace(RUNNING, steps=steps[:1]).current_step_name is None


def test_the_failed_step_is_the_outer_one_whose_failure_is_the_executions() -> None:
    why, other = FailureInfo("timeout", "too slow"), FailureInfo("failure", "caught")
    steps = (
        step("1", "failed", other),
        step("2", "failed", why),
        step("2.1", "failed", why),
        step("3", "running", why),
    )
    failed = replace(RUNNING, state=ExecutionState.FAILED, failure=why, steps=steps)
    assert failed.failed_step == steps[1]
    assert failed.error == "too slow"
    assert replace(failed, failure=FailureInfo("failure", "by itself")).failed_step is None
    assert replace(failed, failure=None).failed_step is None


def test_the_sleep_that_ends_first_is_shown() -> None:
    def wait(kind: str, scope: str, minutes: int | None) -> WaitingOn:
        until = None if minutes is None else datetime.now(timezone.utc) + timedelta(minutes=minutes)
        return WaitingOn(kind, "", scope, START, until, None, None)

    waits = (wait("signal", "", None), wait("sleep", "1", 90), wait("sleep", "2", 30), wait("approval", "3", 1))
    sleep = replace(RUNNING, waiting_on=waits).sleep_info
    assert sleep is not None
    assert sleep.scope == "2"
    assert 29 * 60 < sleep.remaining_seconds <= 30 * 60
    assert replace(RUNNING, waiting_on=waits[:1]).sleep_info is None


def test_elapsed_time_runs_until_the_end_and_is_never_negative() -> None:
    assert replace(RUNNING, ended_at=START + timedelta(seconds=90)).elapsed_seconds == 90.0
    ahead = datetime.now(timezone.utc) + timedelta(hours=1)
    assert replace(RUNNING, started_at=ahead).elapsed_seconds == 0.0
    assert replace(RUNNING, started_at=datetime.now(timezone.utc) - timedelta(hours=1)).elapsed_seconds >= 3600


def test_moments_are_exact_to_the_millisecond_up_to_the_last_one() -> None:
    summary = pb.Summary(status="running", started_at=pb.Timestamp(seconds=253_402_300_799, nanos=999_000_000))
    started = _reading.summary(summary).started_at
    assert started == datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc)


def test_a_summary_says_what_is_waited_for_and_why_it_failed() -> None:
    since = pb.Timestamp(seconds=int(START.timestamp()), nanos=678_000_000)
    waiting = pb.WaitingOn(kind="signal", name="paid", scope="", since=since)
    failure = pb.Failure(kind="exception", message="gone", details='{"type":"KeyError"}', retryable=True)
    summary = _reading.summary(
        pb.Summary(status="parked", waits_for=waiting, other_waits=2, failure=failure, started_at=since)
    )
    assert summary.waits_for == WaitingOn("signal", "paid", "", START, None, None, None)
    assert summary.other_waits == 2
    assert summary.failure == FailureInfo("exception", "gone", {"type": "KeyError"}, retryable=True)
    assert (summary.failure.type, summary.error) == ("KeyError", "gone")
    working = _reading.summary(pb.Summary(status="running", started_at=since))
    assert (working.waits_for, working.other_waits, working.failure, working.error) == (None, 0, None, None)
    assert working.runs_from is None
    assert _reading.summary(pb.Summary(status="running", started_at=since, runs_from=7)).runs_from == 7


def test_a_status_has_the_whole_failure_and_not_that_of_a_list() -> None:
    short, whole = pb.Failure(kind="exception", message="go"), pb.Failure(kind="exception", message="gone for good")
    summary = pb.Summary(status="failed", failure=short)
    status = _reading.status(pb.ExecutionStatus(summary=summary, failure=whole))
    assert status.error == "gone for good"
    cancelled = pb.ExecutionStatus(summary=pb.Summary(status="cancelled"), failure=whole)
    assert _reading.status(cancelled).error == "gone for good"


def test_a_python_failure_shows_type_and_traceback() -> None:
    failure = FailureInfo("exception", "gone", {"type": "KeyError", "traceback": "Traceback …"})
    assert (failure.type, failure.traceback) == ("KeyError", "Traceback …")
    assert FailureInfo("failure", "no", {"error": 1}).traceback is None
    assert FailureInfo("failure", "no", [1]).type is None
