"""Numbers that are probably meant in another unit: a number is milliseconds here, and seconds in asyncio."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

# A wait of fewer milliseconds is seldom meant, and so is one of more seconds.
MS_DOUBTED_MAX = 100
SECONDS_DOUBTED_MIN = 1_000
DOUBT_MS = '{0} is {1} milliseconds: write "{2}" or a timedelta for seconds, and "{3}" if milliseconds are meant'
DOUBT_SECONDS = '{0} is {1} seconds here: write "{3}" or a timedelta for milliseconds, and "{2}" if seconds are meant'
# Functions of ours that take durations, and by which names.
WAITS = ("timeout", "deadline", "delay", "max_delay", "interval", "cancel_grace", "duration")
REQUESTS = ("delete", "fetch", "get", "head", "options", "patch", "post", "put", "request")
TAKE_MS = {
    *(f"cerebelum.{name}" for name in ("approval", "call_step", "poll", "retry", "sleep", "step")),
    *(f"cerebelum.{name}" for name in ("wait_for_approval", "wait_for_signal", "workflow")),
    *(f"cerebelum.http.{name}" for name in REQUESTS),
}


def doubts(called: str | None, call: ast.Call) -> Iterator[str]:
    """What is doubtful about the durations of a call."""
    if called not in TAKE_MS:
        return
    name = str(called).removeprefix("cerebelum.")
    is_seconds = name == "poll" and any(keyword.arg == "condition" for keyword in call.keywords)
    for argument, number in durations(name, call):
        shown = f"{number:.0f}" if number.is_integer() else f"{number}"
        given = f"{argument}={shown}" if argument else f"{name}({shown})"
        as_seconds = f"{number:.0f}s" if number.is_integer() else f"{math.ceil(number * 1_000)}ms"
        if is_seconds and number >= SECONDS_DOUBTED_MIN:
            yield DOUBT_SECONDS.format(given, shown, as_seconds, f"{math.ceil(number)}ms")
        elif not is_seconds and 0 < number < MS_DOUBTED_MAX:
            yield DOUBT_MS.format(given, shown, as_seconds, f"{math.ceil(number)}ms")


def durations(name: str, call: ast.Call) -> Iterator[tuple[str, float]]:
    """The durations of a call that are literal numbers, with the names of their arguments."""
    if name == "sleep" and call.args and (number := literal_number(call.args[0])) is not None:
        yield "", number
    for keyword in call.keywords:
        if keyword.arg in WAITS and (number := literal_number(keyword.value)) is not None:
            yield keyword.arg, number
        if keyword.arg == "retry" and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                inner = key.value if isinstance(key, ast.Constant) else None
                if inner in WAITS and (number := literal_number(value)) is not None:
                    yield str(inner), number


def literal_number(node: ast.expr) -> float | None:
    """The value of a number that is written as one."""
    value = node.value if isinstance(node, ast.Constant) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
