"""The exceptions of this package; each says what the caller can do."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from .results import ExecutionResult, FromException

# The end of a traceback says what happened; a deep recursion has a long one.
TRACEBACK_CHARACTERS_MAX = 16_384
HERE = f"{os.path.dirname(__file__)}{os.sep}"


class CerebelumError(Exception):
    """The base of everything that this package raises."""


class Failure(CerebelumError, FromException):
    """A failure, in the words that a history records.

    Raise it from a step or workflow to say exactly what is recorded; any other exception is recorded with kind
    `exception`, its type and its traceback. A failure with `retryable=False` ends a step at once, whatever its retry
    policy.

    Failures of durable calls are of this class too; look at `kind`: `timeout`, `rejected`, `approval-timeout`,
    `poll-exhausted`, `http-…`.
    """

    def __init__(self, message: str, *, kind: str = "failure", details: Any = None, retryable: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.details = details
        self.retryable = retryable


class StepError(Failure):
    """A step failed for good: its retries are used up, or it declared another attempt pointless."""

    def __init__(self, step: str, failure: Failure) -> None:
        super().__init__(failure.message, kind=failure.kind, details=failure.details, retryable=failure.retryable)
        self.step = step

    @property
    def error(self) -> Any:
        """What the step returned as `{"error": …}`, or else the message."""
        details = self.details
        return details["error"] if isinstance(details, dict) and set(details) == {"error"} else self.message

    def __str__(self) -> str:
        return f"Step '{self.step}' failed: {self.message}"


class ApprovalRejected(Failure):
    """A person said no; the message is the reason."""


class ApprovalTimeout(Failure, TimeoutError):
    """No answer came in time (kind `approval-timeout`)."""


class SignalTimeout(Failure, TimeoutError):
    """No signal came in time (kind `timeout`)."""


class PollTimeout(Failure, TimeoutError):
    """A poll ran out of attempts (kind `poll-exhausted`) or of time (kind `poll-timeout`)."""


class ExecutionError(CerebelumError):
    """An execution failed or was cancelled."""

    def __init__(
        self,
        message: str,
        step_name: str | None = None,
        error: Any = None,
        result: ExecutionResult | None = None,
    ) -> None:
        at = f" at step '{step_name}'" if step_name else ""
        super().__init__(f"Execution failed{at}: {message}")
        self.message = message
        self.step_name = step_name
        self.error = error
        self.result = result


class DefinitionError(CerebelumError):
    """A name that a step or workflow cannot have."""


class StepDefinitionError(CerebelumError):
    """A function cannot be a step."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(f"Step '{step}': {message}")
        self.step = step


class WorkflowDefinitionError(CerebelumError):
    """A workflow has problems; all of them are listed."""

    def __init__(self, workflow: str, errors: Sequence[str]) -> None:
        super().__init__(
            "\n".join([f"Workflow '{workflow}' validation failed:", *(f"  - {error}" for error in errors)])
        )
        self.workflow = workflow
        self.errors = list(errors)


class DependencyError(CerebelumError):
    """A step needs a result that is not there."""

    def __init__(self, step: str, dependency: str, reason: str) -> None:
        super().__init__(f"Step '{step}' cannot resolve dependency '{dependency}': {reason}")
        self.step = step
        self.dependency = dependency


class SerializationError(CerebelumError, TypeError):
    """A value is not JSON, or not what a type hint asks for."""


class ContextError(CerebelumError, RuntimeError):
    """A call in the wrong context: outside of a workflow or step, or while a component is built.

    Another attempt cannot help, so a step that raises it is not retried.
    """

    _is_permanent = True


ValidationError = WorkflowDefinitionError


def failure_of(error: BaseException) -> Failure:
    """An exception as it is recorded."""
    if isinstance(error, Failure):
        return _whole(error)
    name = type(error).__name__
    try:
        trace = "".join(traceback.format_exception(type(error), error, _from_author(error.__traceback__)))
    except Exception:
        trace = "".join(traceback.format_tb(_from_author(error.__traceback__)))
    trace = trace[-TRACEBACK_CHARACTERS_MAX:]
    message = _text(error) or name
    details = {"type": name, "traceback": trace}
    return Failure(message, kind="exception", details=details, retryable=not is_permanent(error))


def make_permanent(error: BaseException) -> None:
    """Marks an exception as one that another attempt cannot help."""
    if isinstance(error, Failure):
        error.retryable = False
    else:
        # Some classes have no room for the attribute.
        with contextlib.suppress(AttributeError, TypeError):
            error._is_permanent = True  # type: ignore[attr-defined]


def is_permanent(error: BaseException) -> bool:
    """Whether another attempt cannot help. An exit would be repeated, and a missing module stays missing."""
    if isinstance(error, Failure):
        return not _whole(error).retryable
    return isinstance(error, (SystemExit, ModuleNotFoundError)) or bool(getattr(error, "_is_permanent", False))


def misuse(message: str) -> TypeError:
    """An exception for a call that is written wrongly: no attempt makes it right."""
    error = TypeError(message)
    make_permanent(error)
    return error


def cancellation_failure(is_cancelled: bool) -> Failure:
    """The failure of a scope that did not handle a cancellation, of its execution or of a task that it awaited."""
    if is_cancelled:
        return Failure("the execution was cancelled", kind="cancelled", retryable=False)
    details = {"type": "CancelledError"}
    return Failure("a task that it awaited was cancelled", kind="exception", details=details)


def _text(error: BaseException) -> str:
    """The text of an exception; for some classes `str` itself fails."""
    try:
        return str(error)
    except Exception:
        return f"{type(error).__name__}, which cannot say what it is"


def _whole(failure: Failure) -> Failure:
    """A failure whose fields have their annotated types, even if a subclass or a caller broke them."""
    kind, message = getattr(failure, "kind", None), getattr(failure, "message", None)
    if isinstance(kind, str) and kind and isinstance(message, str):
        return failure
    return Failure(
        message if isinstance(message, str) else _text(failure) or type(failure).__name__,
        kind=kind if isinstance(kind, str) and kind else "failure",
        details=getattr(failure, "details", None),
        retryable=bool(getattr(failure, "retryable", True)),
    )


def _from_author(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package that led to the author's code."""
    authors = trace
    while authors is not None and authors.tb_frame.f_code.co_filename.startswith(HERE):
        authors = authors.tb_next
    return authors or trace


def typed(failure: Failure) -> Failure:
    """The same failure as the exception class of its kind, so that `except ApprovalRejected` works."""
    kinds: dict[str, type[Failure]] = {
        "rejected": ApprovalRejected,
        "approval-timeout": ApprovalTimeout,
        "poll-exhausted": PollTimeout,
        "poll-timeout": PollTimeout,
    }
    wanted = kinds.get(failure.kind)
    if wanted is None or type(failure) is not Failure:
        return failure
    return wanted(failure.message, kind=failure.kind, details=failure.details, retryable=failure.retryable)
