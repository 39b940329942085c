"""Names for coroutines, and the places at which tasks wait."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Collection, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

from .errors import HERE, TRACEBACK_CHARACTERS_MAX

T = TypeVar("T")
ASYNCIO = f"{os.path.dirname(asyncio.__file__)}{os.sep}"
# The number of tasks whose places are shown.
TASKS_MAX = 10
# Where a coroutine, a generator or an async generator stands, and what it waits for.
FRAMES = ("cr_frame", "gi_frame", "ag_frame")
AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")


def named(coroutine: Coroutine[Any, Any, T], name: str) -> Coroutine[Any, Any, T]:
    """A coroutine under the name that its author knows. Python shows it when the coroutine is never awaited."""
    writable: Any = coroutine
    writable.__name__ = writable.__qualname__ = name
    return coroutine


def places_of(tasks: Collection[asyncio.Task[Any]]) -> str:
    """The lines of the author's at which tasks wait, in the form of a traceback."""
    lines = []
    for task in list(tasks)[:TASKS_MAX]:
        lines.append(f"Task '{task.get_name()}' is here:\n")
        lines += traceback.StackSummary.extract(iter(frames_of(task))).format()
    if len(tasks) > TASKS_MAX:
        lines.append(f"… and {len(tasks) - TASKS_MAX} more tasks\n")
    return "".join(lines)[-TRACEBACK_CHARACTERS_MAX:]


def frames_of(task: asyncio.Task[Any]) -> list[tuple[FrameType, int]]:
    """The frames of a task that waits, outermost first; its author's only, if there are any."""
    frames = list(awaited(task.get_coro()))
    authors = [frame for frame in frames if not frame.f_code.co_filename.startswith((HERE, ASYNCIO))]
    return [(frame, frame.f_lineno) for frame in authors or frames]


def awaited(coroutine: Any) -> Iterator[FrameType]:
    """The frames of a coroutine, of what it awaits, and so on."""
    while coroutine is not None:
        frame = first(coroutine, FRAMES)
        if frame is not None:
            yield frame
        coroutine = first(coroutine, AWAITED)


def first(owner: object, names: tuple[str, ...]) -> Any:
    """The first of these attributes that the object has."""
    return next((getattr(owner, name) for name in names if hasattr(owner, name)), None)
