"""`DistributedExecutor`: runs a workflow on an engine and returns its output."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ..durations import SecondsDuration
from ..results import ExecutionResult
from .calling import ExecutionClient

if TYPE_CHECKING:
    from typing_extensions import Self


class Named(Protocol):
    """Anything with the name of a workflow."""

    @property
    def name(self) -> str:
        """`component/workflow`, or the bare name while it is unique on the engine."""
        ...


class DistributedExecutor:
    """Runs workflows on an engine that has their component; close it, or use it with `async with`."""

    def __init__(
        self,
        core_url: str | None = None,
        worker_id: str = "python-executor",
        timeout: float = 30.0,
        token: str | None = None,
    ) -> None:
        """Arguments as in `ExecutionClient`; `worker_id` names this program to the engine."""
        self.worker_id = worker_id
        self.client = ExecutionClient(core_url, token, timeout, agent=f"cerebelum-python/{worker_id}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; executions continue."""
        await self.client.close()

    async def execute(
        self,
        workflow: str | Named,
        input_data: Any = None,
        execution_id: str | None = None,
        timeout: SecondsDuration | None = None,
    ) -> ExecutionResult:
        """Starts a workflow and waits for its end, however long that takes; an engine that restarts is waited for.

        `workflow` is a name, or something that has one.

        # Raises
        ExecutionError with `.result` when it failed or was cancelled; TimeoutError when it has not ended after
        `timeout` (a `timedelta`, text such as `"5m"`, or seconds), while it goes on; EngineError as
        `ExecutionClient.start` does.
        """
        name = workflow if isinstance(workflow, str) else workflow.name
        execution = await self.client.start(name, input_data, execution_id=execution_id)
        return await execution.result(timeout)
