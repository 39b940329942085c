"""The actions of a rule, besides running steps: `retry(3)`, `back_to(a)`, `skip_to(b)`, `fail(why)`, `end()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from ..durations import Duration, ms
from ..steps import AnyStep, Step

# However large the factor, no wait is longer than the engine lets a sleep last.
DELAY_MS_MAX = 365 * 24 * 3_600 * 1_000


@dataclass(frozen=True)
class RetryAction:
    """Runs the step again, at most `times` times; waits before each, longer by the factor `backoff` every time."""

    times: int
    delay_ms: int = 0
    backoff: float = 1.0

    @classmethod
    def of(cls, times: int, delay: Duration = 0, backoff: float = 1.0) -> RetryAction:
        """What `retry(times, delay=…, backoff=…)` makes.

        # Raises
        TypeError or ValueError when a parameter is not valid.
        """
        if isinstance(times, bool) or not isinstance(times, int):
            raise TypeError(f"retry(n) takes a number of times, not {times!r}")
        if times < 1:
            raise ValueError(f"retry(n) runs a step again at least once, not {times} times")
        if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or not backoff > 0:
            raise ValueError(f"the backoff of a retry is a factor above 0, not {backoff!r}")
        return cls(times, ms(delay, "the delay of a retry"), float(backoff))

    def delay_before(self, time: int) -> int:
        """Milliseconds to wait before the `time`-th repetition, from 1."""
        try:
            return min(DELAY_MS_MAX, ms(self.delay_ms * self.backoff ** (time - 1)))
        except (OverflowError, ValueError):
            return DELAY_MS_MAX

    def __str__(self) -> str:
        return f"retry({self.times})"


@dataclass(frozen=True)
class BackTo:
    """Goes on at an earlier step."""

    step: str

    def __str__(self) -> str:
        return f"back_to({self.step})"


@dataclass(frozen=True)
class SkipTo:
    """Goes on at a later step."""

    step: str

    def __str__(self) -> str:
        return f"skip_to({self.step})"


@dataclass(frozen=True)
class Fail:
    """Fails the execution; by default the reason is the step's answer."""

    reason: Any = None

    def __str__(self) -> str:
        return "fail()"


@dataclass(frozen=True)
class End:
    """Completes the execution."""

    def __str__(self) -> str:
        return "end()"


Jump: TypeAlias = BackTo | SkipTo
Action: TypeAlias = RetryAction | BackTo | SkipTo | Fail | End
ACTIONS = (RetryAction, BackTo, SkipTo, Fail, End)


def back_to(step: AnyStep | str) -> BackTo:
    """Goes on at an earlier step; the results of that step and of all that came after it are dropped.

    An execution jumps back at most 1000 times.
    """
    return BackTo(name_of(step, "back_to"))


def skip_to(step: AnyStep | str) -> SkipTo:
    """Goes on at a later step; what stands between does not run."""
    return SkipTo(name_of(step, "skip_to"))


def fail(reason: Any = None) -> Fail:
    """Fails the execution with this reason; by default the reason is the step's answer."""
    return Fail(reason)


def end() -> End:
    """Completes the execution; its output is the value of the last step that succeeded."""
    return End()


def name_of(step: object, what: str) -> str:
    """The name of a step that was given as such or by name.

    # Raises
    TypeError when it is neither.
    """
    if isinstance(step, Step):
        return step.name
    if isinstance(step, str) and step:
        return step
    raise TypeError(f"{what} takes a step, not {step!r}")
