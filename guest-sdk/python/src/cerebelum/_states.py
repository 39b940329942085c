"""The state of an execution, one word for each: on an engine and in local mode."""

from __future__ import annotations

from enum import Enum


class ExecutionState(str, Enum):
    """The state of an execution, in the engine's words."""

    RUNNING = "running"
    SLEEPING = "sleeping"
    WAITING_FOR_APPROVAL = "waiting-for-approval"
    WAITING = "waiting"
    PAUSED = "paused"
    PARKED = "parked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNSPECIFIED = "unspecified"
    """A word of a newer engine that this client does not know."""

    @classmethod
    def _missing_(cls, value: object) -> ExecutionState:
        return cls.UNSPECIFIED

    def __str__(self) -> str:
        return self.value
