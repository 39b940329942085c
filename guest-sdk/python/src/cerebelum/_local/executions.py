"""One execution in local mode: its runs, its signals, how it is cancelled and how it ends."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from datetime import datetime, timezone
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from .. import _values
from .._states import ExecutionState
from ..errors import Failure, cancellation_failure
from ..results import ExecutionResult, FailureInfo
from . import limits
from .host import Call, LocalHost
from .scopes import Continued, spawn
from .stepping import Target

if TYPE_CHECKING:
    from .world import World

OVERDUE = "cancelled, and clean-up took longer than its grace period"


class Signals:
    """The signals of one execution by name, and the calls that wait for them."""

    def __init__(self) -> None:
        self._early: defaultdict[str, deque[str]] = defaultdict(deque)
        self._waiting: defaultdict[str, deque[asyncio.Future[str]]] = defaultdict(deque)

    def send(self, name: str, data: str) -> None:
        """Delivers to the call that has waited longest, or keeps the signal for the next one."""
        self._early[name].append(data)
        self._match(name)

    async def wait(self, name: str, timeout_s: float | None) -> str:
        """The next signal of that name.

        # Raises
        Failure of kind `timeout`.
        """
        mine: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[name].append(mine)
        self._match(name)
        try:
            await asyncio.wait({mine}, timeout=timeout_s)
        except asyncio.CancelledError:
            if mine.done():
                # The call was cancelled before it consumed the signal.
                self._early[name].appendleft(mine.result())
            mine.cancel()
            self._match(name)
            raise
        if mine.done():
            return mine.result()
        mine.cancel()
        raise Failure("the signal did not come in time", kind="timeout", retryable=False)

    def _match(self, name: str) -> None:
        early, waiting = self._early[name], self._waiting[name]
        while early and waiting:
            first = waiting.popleft()
            if not first.done():
                first.set_result(early.popleft())


class Execution:
    """A workflow that runs, or has run."""

    def __init__(self, world: World, target: Target, input: str, id: str, started_by: Call | None = None) -> None:
        self.world = world
        self.target = target
        self.workflow = target.name
        self.input = input
        self.id = limits.execution_id(id)
        # None when a client started it.
        self.started_by = started_by
        self.run = 1
        self.seed = blake2b(self.id.encode(), digest_size=32).digest()
        self.signals = Signals()
        # JSON text by name.
        self.attributes: dict[str, str] = {}
        # The last step that failed with this kind and message.
        self.failed_steps: dict[tuple[str, str], str] = {}
        self.output: str | None = None
        self.failure: Failure | None = None
        self.status = ExecutionState.RUNNING
        self.began_ms = world.now_ms()
        self.ended_ms: int | None = None
        self.host = LocalHost(self)
        self.is_cancelling = False
        self._overdue: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts running."""
        self._task = spawn(self._execute(), f"execution {self.id}")

    async def ended(self) -> None:
        """Waits for its end, of whatever kind. A bug in this package is raised, so that it does not pass for an end."""
        if self._task is None:
            return
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error

    async def awaited(self) -> str:
        """Its output, for a parent that waits for it; a parent that stops waiting cancels it.

        # Raises
        Failure when it failed.
        """
        try:
            await self.ended()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.failure is not None:
            raise limits.recorded(self.failure)
        return self.output or "null"

    def cancel(self) -> None:
        """Requests its end: its open calls are cancelled, and it may clean up for as long as its workflow allows."""
        if self.is_cancelling or self.status != ExecutionState.RUNNING:
            return
        self.is_cancelling = True
        self.host.cancel_calls()
        if self.target.cancel_grace_ms is not None:
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(self.target.cancel_grace_ms / 1_000, self.terminate, OVERDUE)

    def terminate(self, why: str = "the execution was terminated") -> None:
        """Ends it without clean-up."""
        if self.status == ExecutionState.RUNNING:
            self.is_cancelling = True
            self.host.scope.decide(Failure(why, kind="cancelled", retryable=False))

    def result(self) -> ExecutionResult:
        """How it ended."""
        failure = self.failure
        info = FailureInfo(failure.kind, failure.message, failure.details, failure.retryable) if failure else None
        output = None if self.output is None else _values.decode(self.output, Any, "the output")
        return ExecutionResult(
            execution_id=self.id,
            status=self.status.value,
            output=output,
            error=failure.message if failure else None,
            started_at=moment(self.began_ms),
            completed_at=None if self.ended_ms is None else moment(self.ended_ms),
            failure=info,
        )

    def failed_step(self) -> str | None:
        """The step whose failure is the execution's own, if a step caused it."""
        failure = self.failure
        return self.failed_steps.get((failure.kind, failure.message)) if failure else None

    async def _execute(self) -> None:
        try:
            self.output = await self._runs()
            self.status = ExecutionState.COMPLETED
        except asyncio.CancelledError:
            self._fail(cancellation_failure(is_cancelled=True), ExecutionState.CANCELLED)
            raise
        except Failure as failure:
            is_cancelled = self.is_cancelling and failure.kind == "cancelled"
            self._fail(failure, ExecutionState.CANCELLED if is_cancelled else ExecutionState.FAILED)
        finally:
            if self.status == ExecutionState.RUNNING:
                self.status = ExecutionState.FAILED
            self.ended_ms = self.world.now_ms()
            if self._overdue is not None:
                self._overdue.cancel()

    async def _runs(self) -> str:
        """One run after another, until one ends and does not continue as new."""
        input = self.input
        while True:
            try:
                return await self.world.run_workflow(self.host, self.target.body, input)
            except Continued as following:
                self.run, input = self.run + 1, following.input
            self.host = LocalHost(self)

    def _fail(self, failure: Failure, status: ExecutionState) -> None:
        self.failure, self.status = failure, status


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(ms / 1_000, tz=timezone.utc)
