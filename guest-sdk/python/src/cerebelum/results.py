"""How an execution ended: the same record from local mode and from an engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


class FromException:
    """The exception behind a failure, from its details."""

    details: Any

    @property
    def type(self) -> str | None:
        """The name of the exception's type, when an exception was the reason."""
        return self._detail("type")

    @property
    def traceback(self) -> str | None:
        """The exception's traceback; for a `deadlock`, and a `cpu-limit` in a test, where the tasks stood."""
        return self._detail("traceback")

    def _detail(self, name: str) -> str | None:
        value = self.details.get(name) if isinstance(self.details, dict) else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class FailureInfo(FromException):
    """A failure, as it was recorded."""

    kind: str
    """A stable word: `failure`, `exception`, `timeout`, `cancelled`, `rejected`, … or one of the author's choice."""
    message: str
    """One line for a person."""
    details: Any = None
    """Details for diagnosis; plain JSON."""
    retryable: bool = False
    """Whether another attempt could succeed."""


@dataclass(frozen=True)
class ExecutionResult:
    """How an execution ended."""

    execution_id: str
    """Which."""
    status: str
    """`completed`, `failed` or `cancelled`."""
    output: Any = None
    """What the workflow returned, when it completed."""
    error: str | None = None
    """The failure in one line."""
    started_at: datetime | None = None
    """When it was started."""
    completed_at: datetime | None = None
    """When it ended, however it did."""
    failure: FailureInfo | None = None
    """The failure in full."""
