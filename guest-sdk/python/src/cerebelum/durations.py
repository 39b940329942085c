"""Durations as people write them: a timedelta, text such as `"30s"`, or a number of milliseconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

# A timedelta; text such as "30s", "5m" or "1h30m"; or a number of milliseconds.
Duration: TypeAlias = int | float | timedelta | str
# The same where a number means seconds, as it does in the decorators under `@step`.
SecondsDuration: TypeAlias = int | float | timedelta | str

# The largest number of the contract; a wait of more than a year is refused anyway.
MS_MAX = 2**63 - 1
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
PART = re.compile(r"([0-9]+)([a-z]+)")


def ms(duration: Duration, what: str = "a duration") -> int:
    """Whole milliseconds, rounded up so that no wait ends early; negative ones are zero.

    # Raises
    TypeError or ValueError when it is not a duration.
    """
    if isinstance(duration, timedelta):
        # In whole microseconds: a float loses them after some years.
        micros = duration // timedelta(microseconds=1)
        return min(max(0, -(-micros // 1_000)), MS_MAX)
    if isinstance(duration, str):
        return min(_ms_of_text(duration, what), MS_MAX)
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        given = type(duration).__name__
        raise TypeError(f"{what} is a timedelta, text such as '30s', or a number of milliseconds, not {given}")
    if isinstance(duration, float) and not math.isfinite(duration):
        raise ValueError(f"{what} cannot be {duration}")
    return min(max(0, math.ceil(duration)), MS_MAX)


def optional_ms(duration: Duration | None, what: str = "a duration") -> int | None:
    """The same for a duration that may be left out."""
    return None if duration is None else ms(duration, what)


def from_seconds(duration: SecondsDuration, what: str = "a duration") -> timedelta:
    """A duration whose plain numbers are seconds.

    # Raises
    TypeError or ValueError when it is not a duration.
    """
    if isinstance(duration, timedelta):
        return duration
    if isinstance(duration, str):
        return timedelta(milliseconds=_ms_of_text(duration, what))
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        given = type(duration).__name__
        raise TypeError(f"{what} is a timedelta, text such as '30s', or a number of seconds, not {given}")
    return timedelta(seconds=duration)


def _ms_of_text(text: str, what: str) -> int:
    """Milliseconds of a text such as `1h30m`: the same texts that workflows in Rust and the command line take."""
    parts = PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text.strip() or any(unit not in UNITS_MS for _, unit in parts):
        raise ValueError(f"{what} cannot be {text!r}: write '500ms', '5s', '1m30s', '2h', '3d' or '2w'")
    return sum(int(number) * UNITS_MS[unit] for number, unit in parts)
