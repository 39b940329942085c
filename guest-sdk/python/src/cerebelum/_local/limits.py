"""The limits and conversions between scopes in local mode: the same as between the sandboxes of an engine."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from .. import _values
from .._host import RetryPolicy
from ..errors import Failure, SerializationError, failure_of

# The longest wait: one year.
WAIT_MS_MAX = 365 * 24 * 3_600_000
MESSAGE_BYTES_MAX = 16 << 10

_IDS = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def invalid(message: str) -> Failure:
    """A failure for an invalid argument."""
    return Failure(message, kind="invalid-argument", retryable=False)


def execution_id(id: str) -> str:
    """Checks an id.

    # Raises
    Failure of kind `invalid-argument`.
    """
    if _IDS.fullmatch(id):
        return id
    raise invalid(f"an execution id has 1 to 128 letters, digits and ._:- and nothing else, not {id!r}")


def wait_ms(duration_ms: int, what: str) -> int:
    """A duration of at most a year.

    # Raises
    Failure of kind `invalid-argument`.
    """
    if duration_ms <= WAIT_MS_MAX:
        return duration_ms
    raise invalid(f"{what} of {duration_ms} ms is longer than a year ({WAIT_MS_MAX} ms)")


def timeout_s(timeout_ms: int | None) -> float | None:
    """A timeout in seconds, at most a year.

    # Raises
    Failure of kind `invalid-argument`.
    """
    return None if timeout_ms is None else wait_ms(timeout_ms, "a timeout") / 1_000


def recorded(error: BaseException) -> Failure:
    """An exception as another scope sees it: kind, message, details, and whether to retry."""
    seen = failure_of(error)
    details: Any = None
    if seen.details is not None:
        try:
            details = _values.decode(_values.encode(seen.details, "a failure's details"), Any, "a failure's details")
        except SerializationError as unreadable:
            details = {"unreadable": str(unreadable)}
    message = seen.message.encode("utf-8", "replace")[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore")
    failure = Failure(message, kind=seen.kind, details=details, retryable=seen.retryable)
    # For tracebacks in this process.
    failure.__cause__ = error
    return failure


def raised_to_caller(failure: Failure) -> BaseException:
    """The exception that a failed call raises in its caller: a cancelled call raises a cancellation."""
    return asyncio.CancelledError(failure.message) if failure.kind == "cancelled" else failure


def delay_after(policy: RetryPolicy, attempt: int, failure: Failure, chance: float) -> int | None:
    """Milliseconds to wait after this attempt (from 1) failed; None after the last one, or when another cannot help.

    `chance` in 0..1 draws the jitter.
    """
    if attempt >= policy.max_attempts or not failure.retryable:
        return None
    try:
        plain = policy.delay_ms * max(0.0, policy.backoff) ** (attempt - 1)
    except OverflowError:
        plain = float(policy.max_delay_ms)
    jitter = min(1.0, max(0.0, policy.jitter)) * (2.0 * chance - 1.0)
    return round(min(plain, policy.max_delay_ms) * (1.0 + jitter))
