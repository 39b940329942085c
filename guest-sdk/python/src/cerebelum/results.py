"""How an execution ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class FailureInfo:
    """Why an execution failed, as its history says."""

    kind: str
    message: str
    details: Any = None
    retryable: bool = False


@dataclass(frozen=True)
class ExecutionResult:
    """What became of an execution. `output` is what the workflow returned."""

    execution_id: str
    status: str
    output: Any = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failure: FailureInfo | None = None
