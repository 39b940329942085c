"""The seam between the code of a scope and the engine or process that drives it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .steps import AnyStep
    from .workflows import AnyWorkflow


@dataclass(frozen=True)
class Info:
    """The identity of a scope."""

    execution_id: str
    workflow: str
    step: str | None
    run: int
    attempt: int
    idempotency_key: str


@dataclass(frozen=True)
class RetryPolicy:
    """How often a failed step is tried again, and when."""

    max_attempts: int = 3
    delay_ms: int = 1_000
    backoff: float = 2.0
    max_delay_ms: int = 300_000
    jitter: float = 0.2


@dataclass(frozen=True)
class StepOptions:
    """The limits of a step. Missing ones come from the step's declaration, then from the engine's defaults."""

    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    deadline_ms: int | None = None


@dataclass(frozen=True)
class PollPolicy:
    """The schedule of a poll that the engine drives."""

    interval_ms: int
    max_attempts: int
    timeout_ms: int | None


@dataclass(frozen=True)
class ApprovalRequest:
    """A question to a person; `data` and `schema` are JSON text."""

    kind: str
    title: str
    data: str
    schema: str | None
    timeout_ms: int | None


@dataclass(frozen=True)
class Approval:
    """A person's yes; `data` is JSON text."""

    data: str
    by: str
    comment: str | None


@dataclass(frozen=True)
class HttpRequest:
    """A whole request."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    timeout_ms: int | None = None


@dataclass(frozen=True)
class HttpResponse:
    """A whole response."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class Host(Protocol):
    """Everything a scope can ask for. Values are JSON text; a call that fails raises a `Failure`.

    On an engine every async method is a durable suspension point. Steps and workflows of this program are passed as
    objects, those of other programs by name.
    """

    def info(self) -> Info:
        """The identity of a scope."""

    def now_ms(self) -> int:
        """Milliseconds since 1970; repeats on a rerun."""

    async def sleep(self, duration_ms: int) -> None:
        """Waits."""

    async def run_step(self, step: AnyStep | str, input: str, options: StepOptions) -> str:
        """Runs a step to its end, retries included."""

    async def poll(self, check: AnyStep | str, input: str, policy: PollPolicy) -> str:
        """Runs a check step until it is ready; the engine drives it."""

    async def await_approval(self, request: ApprovalRequest) -> Approval:
        """Asks a person."""

    async def await_signal(self, name: str, timeout_ms: int | None) -> str:
        """Waits for a signal."""

    async def run_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Runs a child to its end."""

    async def start_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Starts an execution that outlives this one."""

    async def continue_as_new(self, input: str) -> None:
        """Ends this run; returns only to say why not."""

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """Sends a request; steps only."""

    def progress(self, percent: int, message: str) -> None:
        """The latest progress of this scope."""

    def log(self, level: str, message: str) -> None:
        """A line for the log: `debug`, `info`, `warn` or `error`."""

    def set_attribute(self, name: str, value: str) -> None:
        """Sets an attribute of the execution; workflows only."""


_scope: ContextVar[Host] = ContextVar("cerebelum_scope")
# In a component there is one scope, so that code outside of any asyncio context finds it as well.
_only: Host | None = None


def current() -> Host:
    """The host of the running scope; outside of one, of an anonymous scope in this process.

    # Raises
    ContextError while a component is built.
    """
    host = _scope.get(None) or _only
    if host is None:
        from ._local import anonymous

        host = anonymous()
    return host


def enter(host: Host) -> None:
    """Makes `host` the host of everything that runs in this context from now on."""
    _scope.set(host)


def occupy(host: Host) -> None:
    """Makes `host` the only host of this process: what a component does."""
    global _only
    _only = host
