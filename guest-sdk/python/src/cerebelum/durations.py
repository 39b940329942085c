"""Durations as people write them: numbers of milliseconds, or timedelta."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

# Milliseconds, or a timedelta.
Duration: TypeAlias = int | float | timedelta


# What fits the contract. Whatever waits for longer than a year is refused, and so is this.
MS_MAX = 2**63 - 1


def ms(duration: Duration, what: str = "a duration") -> int:
    """Whole milliseconds, rounded up so that nobody is woken early; negative ones are zero.

    # Raises
    TypeError or ValueError when it is no duration.
    """
    if isinstance(duration, timedelta):
        # In whole microseconds: a float loses them after some years.
        micros = duration // timedelta(microseconds=1)
        return min(max(0, -(-micros // 1_000)), MS_MAX)
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise TypeError(f"{what} is a number of milliseconds or a timedelta, not {type(duration).__name__}")
    if isinstance(duration, float) and not math.isfinite(duration):
        raise ValueError(f"{what} cannot be {duration}")
    return min(max(0, math.ceil(duration)), MS_MAX)


def optional_ms(duration: Duration | None, what: str = "a duration") -> int | None:
    """The same for a duration that may be left out."""
    return None if duration is None else ms(duration, what)
