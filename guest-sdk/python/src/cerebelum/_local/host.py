"""The host of one scope in local mode: durable calls are ordinary waits of this process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .._host import Approval, ApprovalRequest, HttpRequest, HttpResponse, Info, PollPolicy, StepOptions
from ..errors import Failure
from . import limits
from .people import ask
from .scopes import Continued, Scope, spawn
from .stepping import Target, run_poll, run_step

if TYPE_CHECKING:
    from ..steps import AnyStep
    from ..workflows import AnyWorkflow
    from .executions import Execution

T = TypeVar("T")


class Waiting:
    """An open durable call."""

    def __init__(self, sort: str, name: str, outcome: asyncio.Future[Any]) -> None:
        self.sort = sort
        self.name = name
        self.outcome = outcome


@dataclass(frozen=True)
class Call:
    """A call that starts an execution: its place in the execution that makes it."""

    execution_id: str
    run: int
    path: str
    # Whether it waits for the end.
    is_awaited: bool

    def is_same(self, other: Call) -> bool:
        """Whether both are the same call, made once or by several attempts of a step."""
        return (self.execution_id, self.run, self.path) == (other.execution_id, other.run, other.path)


class LocalHost:
    """See `Host`."""

    def __init__(
        self,
        execution: Execution,
        path: str = "",
        step: str | None = None,
        attempt: int = 1,
        timeout_ms: int | None = None,
    ) -> None:
        self.execution = execution
        self.world = execution.world
        # The ordinals of the calls that lead here, with a poll's round after `#`; empty for the workflow.
        self.path = path
        self.step = step
        self.attempt = attempt
        self.run = execution.run
        self.scope = Scope(timeout_ms)
        self.waiting: dict[int, Waiting] = {}
        self._ordinal = 0

    @property
    def name(self) -> str:
        """The step's name, or the workflow's."""
        return self.step or self.execution.workflow

    def info(self) -> Info:
        """The identity of this scope."""
        return Info(
            execution_id=self.execution.id,
            workflow=self.execution.workflow,
            step=self.step,
            run=self.run,
            attempt=self.attempt,
            idempotency_key=self._key(f"scope {self.run} {self.path}"),
        )

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.world.now_ms()

    async def sleep(self, duration_ms: int) -> None:
        """Waits."""
        limits.wait_ms(duration_ms, "a sleep")
        if duration_ms > 0:
            await self._call("sleep", f"{duration_ms} ms", lambda _: asyncio.sleep(duration_ms / 1_000))

    async def run_step(self, step: AnyStep | str, input: str, options: StepOptions) -> str:
        """Runs a step to its end."""
        target = self.world.step(step)
        return await self._call("step", target.name, lambda path: run_step(self, path, target, input, options))

    async def poll(self, check: AnyStep | str, input: str, policy: PollPolicy) -> str:
        """Runs a check step until it is ready."""
        target = self.world.step(check)
        return await self._call("poll", target.name, lambda path: run_poll(self, path, target, input, policy))

    async def await_approval(self, request: ApprovalRequest) -> Approval:
        """Asks a person."""
        return await self._call("approval", request.title, lambda _: ask(self, request))

    async def await_signal(self, name: str, timeout_ms: int | None) -> str:
        """Waits for a signal."""
        timeout_s = limits.timeout_s(timeout_ms)
        return await self._call("signal", name, lambda _: self.execution.signals.wait(name, timeout_s))

    async def run_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Runs a child to its end."""
        target = self.world.workflow(workflow)

        async def child(path: str) -> str:
            return await self.start(target, input, id, Call(self.execution.id, self.run, path, True)).awaited()

        return await self._call("child", target.name, child)

    async def start_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Starts an execution that outlives this one."""
        target = self.world.workflow(workflow)

        async def start(path: str) -> str:
            return self.start(target, input, id, Call(self.execution.id, self.run, path, False)).id

        return await self._call("start", target.name, start)

    async def continue_as_new(self, input: str) -> None:
        """Ends this run, with all its code."""
        if self.step is not None:
            raise Failure("only a workflow can continue as new", kind="not-granted", retryable=False)
        self.scope.decide(Continued(input))

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """Sends a request."""
        if self.step is None:
            raise Failure("a workflow cannot fetch: effects belong in steps", kind="not-granted", retryable=False)
        return await self._call("fetch", request.url, lambda _: self.world.fetch(request, self._call_key()))

    def progress(self, percent: int, message: str) -> None:
        """The latest progress."""
        if not self.scope.closed:
            self.world.show_progress(self.name, percent, message)

    def log(self, level: str, message: str) -> None:
        """A line for the log."""
        if not self.scope.closed:
            self.world.show_line(self.name, level, message)

    def set_attribute(self, name: str, value: str) -> None:
        """Sets an attribute."""
        if self.step is not None:
            raise Failure("only a workflow can set attributes", kind="not-granted", retryable=False)
        if value.startswith(("{", "[")):
            raise limits.invalid(f"the attribute '{name}' is a text, number, boolean or null")
        self.execution.attributes[name] = value

    def start(self, target: Target, input: str, id: str | None, call: Call) -> Execution:
        """Starts an execution for one of this scope's calls, under an id that follows from the call if none is given.

        # Raises
        Failure of kind `conflict` when the id is taken.
        """
        return self.world.start_child(target, input, id or self._child_id(call.path), call)

    def child(self, path: str, step: str, attempt: int, timeout_ms: int | None) -> LocalHost:
        """The host of one attempt of a step that this scope calls."""
        return LocalHost(self.execution, path, step, attempt, self.world.timeout_ms(timeout_ms))

    def cancel_calls(self) -> None:
        """Cancels every open call and every sleeper, once, in the order in which they were issued."""
        futures = [waiting.outcome for _, waiting in sorted(self.waiting.items())]
        futures.extend(self._sleepers())
        cancelled = [future.cancel("the execution was cancelled") for future in futures]
        if not any(cancelled) and self.scope.main is not None:
            self.scope.main.cancel("the execution was cancelled")

    def _sleepers(self) -> list[asyncio.Future[Any]]:
        """What waits in `asyncio.sleep`: on an engine those are durable calls too."""
        from .._host import _scope

        woken: Any = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined]
        timers: list[Any] = getattr(asyncio.get_running_loop(), "_scheduled", [])
        mine = [timer for timer in timers if not timer.cancelled() and timer._callback is woken]
        return [timer._args[0] for timer in sorted(mine) if timer._context.get(_scope) is self]

    async def _call(self, sort: str, name: str, perform: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """One durable call. It runs outside of all scopes; its caller awaits a future that can be cancelled."""
        if self.scope.closed:
            raise asyncio.CancelledError("the scope has ended")
        self.world.moved()
        self._ordinal += 1
        ordinal = self._ordinal
        path = f"{self.path}.{ordinal}" if self.path else str(ordinal)
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        call = spawn(perform(path))
        call.add_done_callback(lambda task: deliver(outcome, task))
        self.waiting[ordinal] = Waiting(sort, name, outcome)
        self.scope.end_stretch()
        try:
            return await outcome
        finally:
            call.cancel()
            del self.waiting[ordinal]
            if not self.waiting:
                self.scope.begin_stretch()

    def _child_id(self, path: str) -> str:
        run = "" if self.run == 1 else f"r{self.run}-"
        id = f"{self.execution.id}.{run}{path}".replace("#", "-")
        return id if len(id) <= 128 else hashlib.sha256(id.encode()).hexdigest()

    def _call_key(self) -> str:
        return self._key(f"call {self.run} {self.path} {self._ordinal}")

    def _key(self, of: str) -> str:
        return hashlib.blake2b(of.encode(), key=self.execution.seed, digest_size=16).hexdigest()


def deliver(outcome: asyncio.Future[T], call: asyncio.Task[T]) -> None:
    """Passes the outcome of a call on, unless the caller has gone."""
    if outcome.done():
        return
    if call.cancelled():
        outcome.cancel("cancelled")
    elif error := call.exception():
        outcome.set_exception(limits.raised_to_caller(error) if isinstance(error, Failure) else error)
    else:
        outcome.set_result(call.result())
