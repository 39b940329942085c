"""One execution that this program started."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._states import ExecutionState
from ..durations import SecondsDuration
from ..results import ExecutionResult
from .records import ExecutionStatus, ExecutionSummary

if TYPE_CHECKING:
    from .calling import ExecutionClient


class ExecutionHandle:
    """An execution as it was at its start, with the most common requests."""

    def __init__(self, client: ExecutionClient, summary: ExecutionSummary) -> None:
        """`client` sends the requests; `summary` is the engine's answer to the start."""
        self._client = client
        self.summary = summary

    @property
    def execution_id(self) -> str:
        """Its id."""
        return self.summary.execution_id

    @property
    def state(self) -> ExecutionState:
        """Its state at the start; an execution that already existed may have ended."""
        return self.summary.state

    @property
    def started_at(self) -> datetime:
        """When it was started."""
        return self.summary.started_at

    async def status(self) -> ExecutionStatus:
        """The full execution, as it is now."""
        return await self._client.get_execution_status(self.execution_id)

    async def wait(self, timeout: SecondsDuration | None = None) -> ExecutionStatus:
        """The full execution, once it has ended; see `ExecutionClient.wait`."""
        return await self._client.wait(self.execution_id, timeout)

    async def result(self, timeout: SecondsDuration | None = None) -> ExecutionResult:
        """How it ended; see `ExecutionClient.result`."""
        return await self._client.result(self.execution_id, timeout)

    def watch(self) -> AsyncGenerator[ExecutionStatus, None]:
        """The full execution, now and after every change; see `ExecutionClient.watch`."""
        return self._client.watch(self.execution_id)

    async def signal(self, name: str, data: Any = None) -> None:
        """Sends it a message."""
        await self._client.signal(self.execution_id, name, data)

    async def cancel(self) -> None:
        """Requests its end; its clean-up code runs."""
        await self._client.cancel(self.execution_id)

    def __repr__(self) -> str:
        return f"<ExecutionHandle {self.execution_id} {self.summary.workflow}>"
