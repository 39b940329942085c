"""The calls of a workflow that is rerun, and the outcomes delivered to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """How a call or a guest ended."""

    value: Any = None
    error: BaseException | None = None

    @classmethod
    def of(cls, task: asyncio.Task[Any]) -> Outcome:
        """How a task ended."""
        if task.cancelled():
            return cls(error=asyncio.CancelledError("cancelled"))
        error = task.exception()
        return cls(error=error) if error is not None else cls(task.result())

    def deliver(self, future: asyncio.Future[Any]) -> None:
        """Settles the future that waits for it."""
        if isinstance(self.error, asyncio.CancelledError):
            future.cancel("the execution was cancelled")
        elif self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.value)


@dataclass
class Journal:
    """The calls of a run, and the outcomes delivered to it."""

    # The calls, by ordinal from 1.
    asked: list[str] = field(default_factory=list)
    # Calls that the workflow itself gave up.
    dropped: set[int] = field(default_factory=set)
    # Ordinal, outcome, and the time of delivery in milliseconds since 1970.
    delivered: list[tuple[int, Outcome, int]] = field(default_factory=list)
