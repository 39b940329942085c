"""Durations: numbers keep the unit that they always had, and text and timedelta say theirs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from cerebelum import Context, approval, poll, retry, sleep, step, wait_for_signal, workflow
from cerebelum.durations import Duration, from_seconds, ms
from cerebelum.testing import Decision, Local, silence


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (2, 2),
        (0.5, 1),
        (-1, 0),
        ("0ms", 0),
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        (" 2d ", 172_800_000),
        ("1w", 604_800_000),
        (timedelta(microseconds=1_500), 2),
    ],
)
def test_durations_are_read_as_written(duration: Duration, expected: int) -> None:
    assert ms(duration) == expected


@pytest.mark.parametrize("text", ["", "30", "s", "30 s", "1.5s", "30S", "1y", "-1s", "30sx", "five"])
def test_text_that_is_not_a_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"a sleep cannot be .*: write '500ms', '5s', '1m30s', '2h', '3d' or '2w'"):
        ms(text, "a sleep")


@pytest.mark.parametrize("convert", [ms, from_seconds])
@pytest.mark.parametrize("given", [None, True, [], b"5s"])
def test_what_is_no_duration_is_a_type_error(convert: Callable[[Any], Any], given: Any) -> None:
    with pytest.raises(TypeError, match="is a timedelta, text such as '30s', or a number of"):
        convert(given)


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (lambda: sleep("30s"), 30),
        (lambda: sleep(2_000), 2),
        (lambda: poll(lambda: False, interval="1m", timeout="90s"), 120),
        (lambda: retry(fail, max_attempts=2, delay="1h"), 3_600),
        (lambda: wait_for_signal("never", timeout="3d"), 3 * 86_400),
        (lambda: approval("Go on?", timeout="2h"), 7_200),
    ],
)
def test_text_stands_for_a_duration_wherever_one_is_taken(
    wait: Callable[[], Coroutine[Any, Any, Any]], expected: int
) -> None:
    @workflow
    async def waits(context: Context) -> None:
        await wait()

    assert Local().run(waits).elapsed == timedelta(seconds=expected)


def fail() -> None:
    raise ValueError("again")


def test_decorators_take_text_and_timedelta_where_numbers_are_seconds() -> None:
    @step(retry={"max_attempts": 1, "delay": "1s", "max_delay": "1m"}, timeout="30s", deadline="1h")
    @sleep(seconds="1m")
    @poll(condition=bool, interval=timedelta(minutes=2), timeout="3m")
    async def patient(context: Context) -> bool:
        return False

    assert (patient.options.timeout_ms, patient.options.deadline_ms) == (30_000, 3_600_000)
    run = Local().run_step(patient)
    assert run.failure is not None
    assert run.failure.kind == "poll-timeout"
    assert run.elapsed == timedelta(minutes=5)


def test_an_approval_before_a_step_takes_any_duration() -> None:
    @step(retry=1)
    @approval(timeout="2h", data={"n": 1})
    async def careful(context: Context) -> None: ...

    asked: list[Any] = []

    def no_answer(question: Any) -> Decision:
        asked.append(question.data)
        return silence()

    run = Local().on_approval(None, no_answer).run_step(careful)
    assert (run.elapsed, asked) == (timedelta(hours=2), [{"n": 1}])
    with pytest.raises(TypeError, match="not both"):
        approval(timeout="2h", timeout_minutes=5)
