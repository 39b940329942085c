"""The engine as a host: durable calls through the imports of a component. Only there inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import componentize_py_async_support as support
from componentize_py_types import Err
from wit_world.imports import context, durable, http, types

from ._host import (
    Approval,
    ApprovalRequest,
    HttpRequest,
    HttpResponse,
    Info,
    PollPolicy,
    StepOptions,
)
from .errors import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .steps import AnyStep
    from .workflows import AnyWorkflow

LEVELS = {
    "debug": context.Level.DEBUG,
    "info": context.Level.INFO,
    "warn": context.Level.WARN,
    "error": context.Level.ERROR,
}


class EngineHost:
    """See `Host`. Outgoing text is stripped of lone surrogates, which UTF-8 cannot encode."""

    def info(self) -> Info:
        """The identity of this scope."""
        info = context.get_info()
        return Info(info.execution_id, info.workflow, info.step, info.run, info.attempt, info.idempotency_key)

    def now_ms(self) -> int:
        """The time of the last outcome."""
        now: int = context.now()
        return now

    async def sleep(self, duration_ms: int) -> None:
        """Waits."""
        if duration_ms > 0:
            await outcome_of(durable.sleep(duration_ms))

    async def run_step(self, step: AnyStep | str, input: str, options: StepOptions) -> str:
        """Runs a step to its end."""
        return str(await outcome_of(durable.run_step(call_of(step, input), options_of(options))))

    async def poll(self, check: AnyStep | str, input: str, policy: PollPolicy) -> str:
        """Runs a check step until it is ready."""
        asked = durable.PollPolicy(policy.interval_ms, policy.max_attempts, policy.timeout_ms)
        return str(await outcome_of(durable.poll(call_of(check, input), asked)))

    async def await_approval(self, request: ApprovalRequest) -> Approval:
        """Asks a person."""
        asked = durable.ApprovalRequest(
            text(request.kind), text(request.title), request.data, request.schema, request.timeout_ms
        )
        answer = await outcome_of(durable.await_approval(asked))
        return Approval(answer.data, answer.by, answer.comment)

    async def await_signal(self, name: str, timeout_ms: int | None) -> str:
        """Waits for a signal."""
        return str(await outcome_of(durable.await_signal(text(name), timeout_ms)))

    async def run_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Runs a child to its end."""
        return str(await child_outcome(durable.run_workflow(durable.WorkflowCall(name_of(workflow), input, id))))

    async def start_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Starts an execution that outlives this one."""
        return str(await outcome_of(durable.start_workflow(durable.WorkflowCall(name_of(workflow), input, id))))

    async def continue_as_new(self, input: str) -> None:
        """Ends this run."""
        await outcome_of(durable.continue_as_new(input))

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """Sends a request."""
        headers = [(text(name), text(value)) for name, value in request.headers]
        asked = http.Request(text(request.method), text(request.url), headers, request.body, request.timeout_ms)
        answer = await outcome_of(http.fetch(asked))
        return HttpResponse(answer.status, answer.headers, answer.body)

    def progress(self, percent: int, message: str) -> None:
        """The latest progress."""
        context.progress(percent, text(message))

    def log(self, level: str, message: str) -> None:
        """A line for the log."""
        context.log(LEVELS.get(level, context.Level.INFO), text(message))

    def set_attribute(self, name: str, value: str) -> None:
        """Sets an attribute."""
        if context.get_info().step is not None:
            raise Failure("only a workflow can set attributes", kind="not-granted", retryable=False)
        context.set_attribute(text(name), value)


async def outcome_of(call: Awaitable[Any]) -> Any:
    """The outcome of a call.

    # Raises
    Failure, and CancelledError when the execution is being cancelled.
    """
    try:
        return await call
    except Err as error:
        refused = error.value
    if refused.kind == "cancelled":
        await support._loop.cut_off(refused.message)
    raise failure_from(refused)


async def child_outcome(call: Awaitable[Any]) -> Any:
    """The same for a child. A child can be cancelled on its own; for its parent that is an ordinary failure."""
    try:
        return await call
    except Err as error:
        raise failure_from(error.value) from None


def failure_from(refused: Any) -> Failure:
    """A failure of the contract as an exception."""
    from ._values import decode

    details = None if refused.details is None else decode(refused.details, Any, "a failure's details")
    return Failure(refused.message, kind=refused.kind, details=details, retryable=refused.retryable)


def failure_to(failure: Failure) -> Any:
    """An exception as a failure of the contract."""
    from ._values import encode
    from .errors import SerializationError

    try:
        details = None if failure.details is None else encode(failure.details, "a failure's details")
    except SerializationError as error:
        details = encode({"unreadable": str(error)}, "a failure's details")
    return types.Failure(text(failure.kind), text(failure.message), details, failure.retryable)


def options_of(options: StepOptions) -> Any:
    """A step's bounds in the words of the contract."""
    retry = options.retry
    policy = None
    if retry is not None:
        policy = types.RetryPolicy(retry.max_attempts, retry.delay_ms, retry.backoff, retry.max_delay_ms, retry.jitter)
    return types.StepOptions(policy, options.timeout_ms, options.deadline_ms)


def call_of(step: AnyStep | str, input: str) -> Any:
    """A step call in the words of the contract."""
    return types.StepCall(name_of(step), input)


def name_of(called: AnyStep | AnyWorkflow | str) -> str:
    """The name of a step or workflow."""
    return text(called if isinstance(called, str) else called.name)


def text(value: str) -> str:
    """Text that UTF-8 can encode."""
    return value.encode("utf-8", "replace").decode("utf-8")
