"""Waiting for time, people and signals."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, overload

from . import _hints, _values
from ._approvers import with_approvers
from ._host import ApprovalRequest, current
from ._tasks import named
from .durations import Duration, SecondsDuration, from_seconds, ms, optional_ms
from .errors import Failure, SignalTimeout, typed
from .steps import refuse_step

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def before(pause: Callable[[], Awaitable[Any]]) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Any]]:
    """A decorator that waits before the body of a function."""

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        refuse_step(function)

        @functools.wraps(function)
        async def waited(*args: P.args, **kwargs: P.kwargs) -> R:
            await pause()
            return await function(*args, **kwargs)

        return waited

    return decorate


class _Sleep:
    """`await sleep(2000)`, `await sleep(timedelta(days=1))`, or `@sleep(seconds=60)` under `@step`."""

    @overload
    def __call__(self, duration: Duration) -> Coroutine[Any, Any, None]: ...

    @overload
    def __call__(
        self, *, seconds: SecondsDuration
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    def __call__(self, duration: Duration | None = None, *, seconds: SecondsDuration | None = None) -> Any:
        """Waits durably: the code behind it runs at the deadline, even if the engine restarts meanwhile.

        Args:
            duration: a timedelta, text such as `"30s"`, or a number of milliseconds; at most one year.
            seconds: makes it a decorator instead; the wait comes before the body.
        """
        if (duration is None) == (seconds is None):
            raise TypeError("sleep takes a duration: await sleep(2000), or @sleep(seconds=2)")
        if duration is not None:
            return named(self._wait(duration), "sleep")
        whole = from_seconds(seconds or 0, "a sleep")
        return before(lambda: self._wait(whole))

    async def _wait(self, duration: Duration) -> None:
        await current().sleep(ms(duration, "a sleep"))


sleep = _Sleep()


@dataclass(frozen=True)
class Approved(Generic[T]):
    """A person's approval: the answer, its author and their comment."""

    data: T
    by: str = ""
    comment: str | None = None


class _Approval:
    """`await approval("Go live?")`, or `@approval(type="manual", timeout_minutes=60)` under `@step`."""

    @overload
    def __call__(
        self,
        title: str,
        /,
        *,
        data: Any = None,
        kind: str = "manual",
        schema: builtins.type[T],
        approvers: Sequence[str] | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, Approved[T]]: ...

    # A JSON Schema, and hints that are not classes, such as `Terms | None`.
    @overload
    def __call__(
        self,
        title: str,
        /,
        *,
        data: Any = None,
        kind: str = "manual",
        schema: Any = None,
        approvers: Sequence[str] | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, Approved[Any]]: ...

    @overload
    def __call__(
        self,
        /,
        *,
        type: str = "manual",
        data: Any = None,
        schema: Any = None,
        approvers: Sequence[str] | None = None,
        timeout: Duration | None = None,
        timeout_minutes: float | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    def __call__(
        self,
        title: str | None = None,
        /,
        *,
        data: Any = None,
        kind: str = "manual",
        schema: Any = None,
        approvers: Sequence[str] | None = None,
        timeout: Duration | None = None,
        type: str = "manual",
        timeout_minutes: float | None = None,
    ) -> Any:
        """Asks a person and waits, for days if need be. The execution takes no memory meanwhile.

        Args:
            title: the question.
            data: JSON for the person to look at.
            kind: a word for the sort of approval.
            schema: the type of the answer, a dataclass for example; or a JSON Schema that it must satisfy.
            approvers: those who may answer, at most 32: names of tokens' owners, or `role:ROLE`. Each of them needs the
                right to answer questions besides; without a list, that right is enough.
            timeout: from the question on, also over restarts: a timedelta, text such as `"3d"`, or a number of
                milliseconds.
            type: the kind, in the decorator.
            timeout_minutes: the timeout in minutes, in the decorator.

        # Raises
        ApprovalRejected when the person says no, ApprovalTimeout when no answer comes in time, Failure of kind
        `invalid-argument` when the list of approvers is not valid, TypeError when the schema is not.
        """
        _check_schema(schema)
        if title is not None:
            return named(_ask(kind, title, data, (schema, approvers), timeout), "approval")
        if timeout is not None and timeout_minutes is not None:
            raise TypeError("approval takes timeout or timeout_minutes, not both")
        limit = timeout if timeout_minutes is None else timedelta(minutes=timeout_minutes)
        _ = optional_ms(limit, "an approval's timeout")
        return before(lambda: _ask(type, current().info().step or type, data, (schema, approvers), limit))


approval = _Approval()


@overload
async def wait_for_approval(
    approval_type: str = "manual",
    data: Any = None,
    timeout_ms: int | None = None,
    *,
    title: str | None = None,
    schema: type[T],
    approvers: Sequence[str] | None = None,
    timeout: Duration | None = None,
) -> Approved[T]: ...


@overload
async def wait_for_approval(
    approval_type: str = "manual",
    data: Any = None,
    timeout_ms: int | None = None,
    *,
    title: str | None = None,
    schema: Any = None,
    approvers: Sequence[str] | None = None,
    timeout: Duration | None = None,
) -> Approved[Any]: ...


async def wait_for_approval(
    approval_type: str = "manual",
    data: Any = None,
    timeout_ms: int | None = None,
    *,
    title: str | None = None,
    schema: Any = None,
    approvers: Sequence[str] | None = None,
    timeout: Duration | None = None,
) -> Approved[Any]:
    """The same as `approval`, with the parameters in the order of the original Cerebelum.

    # Raises
    ApprovalRejected, ApprovalTimeout.
    """
    _check_schema(schema)
    limit = timeout if timeout is not None else timeout_ms
    return await _ask(approval_type, title or f"{approval_type} approval", data, (schema, approvers), limit)


async def _ask(
    kind: str,
    title: str,
    data: Any,
    answer: tuple[Any, Sequence[str] | None],
    timeout: Duration | None,
) -> Approved[Any]:
    wanted, approvers = answer
    hint, schema = (Any, wanted) if wanted is None or isinstance(wanted, Mapping) else (wanted, _schema_of(wanted))
    schema = with_approvers(schema, approvers)
    request = ApprovalRequest(
        kind=kind,
        title=title,
        data=_values.encode(data, "what an approval shows"),
        schema=None if schema is None else _values.encode(schema, "an approval's schema"),
        timeout_ms=optional_ms(timeout, "an approval's timeout"),
    )
    try:
        approval = await current().await_approval(request)
    except Failure as failure:
        raise typed(failure) from None
    return Approved(_hints.told(approval.data, hint, f"the answer to '{title}'"), approval.by, approval.comment)


def _check_schema(schema: Any) -> None:
    if schema is not None and not isinstance(schema, Mapping):
        _hints.check_hint(schema, "approval", "schema")


def _schema_of(hint: Any) -> dict[str, Any] | None:
    from ._schema import of_hint

    return of_hint(hint)


@overload
async def wait_for_signal(name: str, timeout: Duration | None = None, *, returns: type[T]) -> T: ...


# Hints that are not classes, such as `Payment | None`.
@overload
async def wait_for_signal(name: str, timeout: Duration | None = None, *, returns: Any = Any) -> Any: ...


async def wait_for_signal(name: str, timeout: Duration | None = None, *, returns: Any = Any) -> Any:
    """Waits for a signal of that name and yields its data. Signals that arrive early are queued.

    Args:
        name: the signal's name.
        timeout: from the call on, also over restarts: a timedelta, text such as `"3d"`, or a number of milliseconds.
        returns: the type of the data, a dataclass for example; plain JSON when left out.

    # Raises
    SignalTimeout, Failure of kind `schema-mismatch` when the data does not have that type.
    """
    _hints.check_hint(returns, "wait_for_signal", "returns")
    try:
        text = await current().await_signal(name, optional_ms(timeout, "a signal's timeout"))
    except Failure as failure:
        if failure.kind != "timeout":
            raise
        raise SignalTimeout(
            failure.message, kind=failure.kind, details=failure.details, retryable=failure.retryable
        ) from None
    return _hints.told(text, returns, f"signal '{name}'")
