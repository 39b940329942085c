"""Questions to people in local mode: a callback answers them, or the person at the terminal."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _values
from .._host import Approval, ApprovalRequest
from ..errors import ApprovalRejected, Failure
from ..waits import Approved
from . import limits
from .scopes import spawn

if TYPE_CHECKING:
    from .host import LocalHost

BY = "local"


@dataclass(frozen=True)
class Asked:
    """A question to a person."""

    execution_id: str
    workflow: str
    # None when the workflow itself asks.
    step: str | None
    kind: str
    title: str
    # What the person needs to see.
    data: Any
    # JSON Schema of the answer.
    schema: Any
    timeout_ms: int | None


async def ask(host: LocalHost, request: ApprovalRequest) -> Approval:
    """Asks, and waits as long as the question is open.

    # Raises
    Failure of kind `rejected` or `approval-timeout`.
    """
    info = host.info()
    asked = Asked(
        execution_id=info.execution_id,
        workflow=info.workflow,
        step=info.step,
        kind=request.kind,
        title=request.title,
        data=_values.decode(request.data, Any, "what an approval shows"),
        schema=None if request.schema is None else _values.decode(request.schema, Any, "an approval's schema"),
        timeout_ms=request.timeout_ms,
    )
    timeout_s = limits.timeout_s(request.timeout_ms)
    answer = spawn(host.world.decide(asked))
    try:
        await asyncio.wait({answer}, timeout=timeout_s)
        if not answer.done():
            raise Failure("nobody answered in time", kind="approval-timeout", retryable=False)
        return answer.result()
    finally:
        answer.cancel()


def rejected(reason: str, by: str = BY) -> Failure:
    """A person's no."""
    return Failure(f"rejected by {by}: {reason}", kind="rejected", retryable=False)


def approval_of(answer: Any, by: str = BY) -> Approval:
    """What a callback returned, as an approval.

    # Raises
    Failure of kind `rejected` for False, TypeError for None.
    """
    if isinstance(answer, Approval):
        return answer
    if answer is None:
        raise TypeError(
            "approve() returned None: return True, False, the answer itself, or Approved(answer, by, comment)"
        )
    if answer is False:
        raise rejected("no reason given", by)
    if answer is True:
        return Approval("null", by, None)
    if isinstance(answer, Approved):
        return Approval(_values.encode(answer.data, "an approval"), answer.by or by, answer.comment)
    return Approval(_values.encode(answer, "an approval"), by, None)


async def from_callback(callback: Callable[[Asked], Any], asked: Asked) -> Approval:
    """The answer of a callback. A blocking one runs in a thread.

    # Raises
    Failure: its rejection, or its own error.
    """
    try:
        answer = await (callback(asked) if inspect.iscoroutinefunction(callback) else in_thread(callback, asked))
        if inspect.isawaitable(answer):
            answer = await answer
        return approval_of(answer)
    except ApprovalRejected as no:
        raise rejected(no.message) from None
    except Failure:
        raise
    except Exception as error:
        # An error in a callback is not a rejection, and another attempt would not help.
        failure = limits.recorded(error)
        failure.retryable = False
        raise failure from error


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """What a blocking function returns.

    Not on asyncio's own threads: a program that is interrupted would wait for those before it ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome: tuple[Any, BaseException | None] = (context.run(function, *args), None)
        except BaseException as error:
            outcome = (None, error)
        # The loop may be closed by now.
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_tell, future, *outcome)
            except RuntimeError:
                return

    threading.Thread(target=run, name="cerebelum-approval", daemon=True).start()
    return await future


def _tell(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError("the function raised StopIteration"))
    else:
        future.set_exception(error)
