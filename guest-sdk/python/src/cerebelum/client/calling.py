"""`ExecutionClient`: all requests that a program can make of an engine."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .._proto import engine_pb2 as pb
from .._states import ExecutionState
from .._values import encode
from ..durations import Duration, SecondsDuration, from_seconds, optional_ms
from ..errors import ExecutionError
from ..results import ExecutionResult
from . import _reading
from ._address import address_of, metadata_of, person
from ._connection import Connection
from ._json import encode_attributes
from ._patience import Patience
from .errors import EngineUnreachable, InvalidRequest
from .handle import ExecutionHandle
from .records import (
    ACTIVE,
    ApprovalInfo,
    ComponentInfo,
    Event,
    ExecutionPage,
    ExecutionStatus,
    ExecutionSummary,
    LogLine,
)

if TYPE_CHECKING:
    from typing_extensions import Self

POLL_SECONDS_MAX = 30.0
"""How long one request for an end stays open before it is repeated."""
UPLOAD_SECONDS_MAX = 600.0
"""The time allowed to upload and compile a component."""
CHUNK_BYTES = 256 << 10
LIST_LIMIT_MAX = 1_000


class ExecutionClient:
    """Talks to one engine.

    Every method raises `EngineUnreachable`, `NotFound`, `Refused` or `InvalidRequest`, each with one line that says
    what is wrong. A client is not bound to an event loop; close it, or use it with `async with`.
    """

    def __init__(
        self,
        core_url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        *,
        away_seconds_max: float = 300.0,
        agent: str = "cerebelum-python",
    ) -> None:
        """`core_url` is `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`, else `CEREBELUM_URL` or
        `CEREBELUM_CORE_URL`, else localhost:9090; `token` identifies the caller, else `CEREBELUM_TOKEN`. A single call
        may take `timeout` seconds; calls that wait (`wait`, `result`, `watch`, `logs`) tolerate an engine that is away
        for `away_seconds_max` seconds, once it has answered to this client. `agent` names this program to the engine.
        """
        self._connection = Connection(address_of(core_url), metadata_of(token), timeout, agent)
        self._timeout_seconds = timeout
        self._away_seconds_max = away_seconds_max

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; executions continue."""
        await self._connection.close()

    # Starting

    async def start(
        self,
        workflow: str,
        inputs: Any = None,
        *,
        execution_id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        delay: Duration | None = None,
        deadline: Duration | None = None,
    ) -> ExecutionHandle:
        """Starts `workflow` (`component/workflow`, or the bare name while it is unique).

        The same `execution_id`, workflow and input answer with the execution that is there; an id is drawn when it is
        left out. A start whose answer gets lost is repeated for as long as a call may take. The execution begins only
        after `delay`, and fails with kind `deadline` when it has not ended after `deadline`; numbers are milliseconds.
        `attributes` are JSON scalars that lists can be filtered by.
        """
        request = pb.StartRequest(
            workflow=workflow,
            input=encode(inputs, "the input"),
            execution_id=execution_id or _fresh_id(),
            attributes=encode_attributes(attributes),
            delay_ms=optional_ms(delay, "delay"),
            deadline_ms=optional_ms(deadline, "deadline"),
        )
        until = time.monotonic() + self._timeout_seconds
        patience = Patience(self._timeout_seconds)
        while True:
            try:
                answer = await self._connection.ask(pb.Engine.Start, request, until - time.monotonic())
                return ExecutionHandle(self, _reading.summary(answer))
            except EngineUnreachable as absence:
                await self._outlast(patience, absence, until)
                if time.monotonic() >= until:
                    raise

    async def upload(self, source: str | os.PathLike[str] | bytes, name: str | None = None) -> ComponentInfo:
        """Uploads a component, from a file or as bytes, and makes it the current one of its name.

        The name comes from the file's when it is left out; bytes need one.

        # Raises
        OSError when the file cannot be read.
        """
        if isinstance(source, bytes):
            if not name:
                raise InvalidRequest("a component that comes as bytes needs a name")
            file_name, content = f"{name}.wasm", source
        else:
            path = Path(source)
            file_name, content = path.name, await asyncio.to_thread(path.read_bytes)
        pieces = _pieces(name, file_name, content)
        return _reading.component(await self._connection.send(pb.Engine.Upload, pieces, UPLOAD_SECONDS_MAX))

    async def components(self) -> list[ComponentInfo]:
        """All components by name, the current one of each name first."""
        answer = await self._connection.ask(pb.Engine.Components, pb.ComponentsRequest())
        return [_reading.component(component) for component in answer.components]

    async def remove_component(self, name: str, digest: str | None = None) -> list[str]:
        """Removes a component, or only the version whose digest begins so; yields the digests of what is removed.

        # Raises
        Refused when an execution may still need it: it is open, or has failed and could be resumed.
        """
        request = pb.RemoveComponentRequest(name=name, digest=digest)
        return list((await self._connection.ask(pb.Engine.RemoveComponent, request)).digests)

    # Looking

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """An execution in full, as it is now."""
        request = pb.StatusRequest(execution_id=execution_id)
        return _reading.status(await self._connection.ask(pb.Engine.Status, request))

    async def list_executions(
        self,
        workflow_name: str | None = None,
        status: ExecutionState | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> ExecutionPage:
        """A page of at most `limit` executions, the newest first; go on with `cursor=page.next`.

        `workflow_name` may be `component/workflow` or the bare name. An execution has to have all `attributes`.
        """
        if not 0 < limit <= LIST_LIMIT_MAX:
            raise InvalidRequest(f"limit has to be 1 to {LIST_LIMIT_MAX}, not {limit}")
        request = pb.ListRequest(
            status=_word(status),
            workflow=workflow_name,
            attributes=encode_attributes(attributes),
            cursor=cursor,
            limit=limit,
        )
        return _reading.page(await self._connection.ask(pb.Engine.List, request))

    async def all_executions(
        self,
        workflow_name: str | None = None,
        status: ExecutionState | str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[ExecutionSummary, None]:
        """All executions, the newest first, page after page."""
        cursor = None
        while True:
            page = await self.list_executions(workflow_name, status, 500, cursor, attributes)
            for execution in page:
                yield execution
            if page.next is None:
                return
            cursor = page.next

    async def list_active_workflows(self) -> list[ExecutionSummary]:
        """The executions that have not ended, the newest first.

        The engine is asked for one state after the other: an execution that changes its state meanwhile may be missing.
        """
        found: dict[str, ExecutionSummary] = {}
        for state in ACTIVE:
            async for execution in self.all_executions(status=state):
                found[execution.execution_id] = execution
        return sorted(found.values(), key=lambda execution: execution.started_at, reverse=True)

    async def history(self, execution_id: str, run: int | None = None) -> AsyncGenerator[Event, None]:
        """The events of an execution in order: of its latest run, or of the one named, from 1."""
        request = pb.HistoryRequest(execution_id=execution_id, run=run)
        async with aclosing(self._connection.follow(pb.Engine.History, request)) as events:
            async for event in events:
                yield _reading.event(event)

    async def logs(self, execution_id: str, *, after: int = 0, follow: bool = False) -> AsyncGenerator[LogLine, None]:
        """The log lines of an execution in order, those numbered above `after`.

        With `follow` it goes on with new lines until the execution has ended; an engine that restarts is waited for.
        """
        patience = Patience(self._away_seconds_max)
        while True:
            request = pb.LogsRequest(execution_id=execution_id, after=after, follow=follow)
            try:
                async with aclosing(self._connection.follow(pb.Engine.Logs, request)) as lines:
                    async for line in lines:
                        patience.renew()
                        after = line.seq
                        yield _reading.log_line(line)
                return
            except EngineUnreachable as absence:
                await self._outlast(patience, absence)

    # Waiting

    async def wait(self, execution_id: str, timeout: SecondsDuration | None = None) -> ExecutionStatus:
        """An execution in full, once it has ended, however long that takes; an engine that restarts is waited for.

        # Raises
        TimeoutError when it has not ended after `timeout` (a `timedelta`, text such as `"5m"`, or seconds); it goes on.
        """
        until = None if timeout is None else time.monotonic() + _seconds(timeout)
        patience = Patience(self._away_seconds_max)
        while True:
            left = POLL_SECONDS_MAX if until is None else min(POLL_SECONDS_MAX, max(0.0, until - time.monotonic()))
            request = pb.WaitRequest(execution_id=execution_id, timeout_ms=round(left * 1_000))
            try:
                answer = await self._connection.ask(pb.Engine.Wait, request, left + self._timeout_seconds)
            except EngineUnreachable as absence:
                await self._outlast(patience, absence, until)
            else:
                patience.renew()
                if answer.summary.HasField("ended_at"):
                    return _reading.status(answer)
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"execution `{execution_id}` has not ended after {timeout}; it goes on")

    async def result(self, execution_id: str, timeout: SecondsDuration | None = None) -> ExecutionResult:
        """How an execution ended, with its output; it waits for the end as `wait` does.

        # Raises
        ExecutionError with `.result` when it failed or was cancelled; TimeoutError as in `wait`.
        """
        return _completed(await self.wait(execution_id, timeout))

    async def watch(self, execution_id: str) -> AsyncGenerator[ExecutionStatus, None]:
        """An execution in full: now, and again after every change, until it has ended.

        Changes in quick succession come as one; an engine that restarts is waited for.
        """
        request = pb.WatchRequest(execution_id=execution_id)
        patience = Patience(self._away_seconds_max)
        seen: pb.ExecutionStatus | None = None
        while True:
            try:
                async with aclosing(self._connection.follow(pb.Engine.Watch, request)) as answers:
                    async for answer in answers:
                        patience.renew()
                        # After a restart the engine begins with a state that it has sent before.
                        if answer != seen:
                            seen = answer
                            yield _reading.status(answer)
                        if answer.summary.HasField("ended_at"):
                            return
                raise EngineUnreachable("the engine ended the stream before the execution ended")
            except EngineUnreachable as absence:
                await self._outlast(patience, absence)

    async def _outlast(self, patience: Patience, absence: EngineUnreachable, until: float | None = None) -> None:
        if not self._connection.has_answered:
            raise absence
        await patience.outlast(absence, until)

    # Deciding

    async def approvals(self, execution_id: str | None = None) -> list[ApprovalInfo]:
        """Questions that wait for a person, or all that one execution has asked, the newest first."""
        request = pb.ApprovalsRequest(execution_id=execution_id)
        approvals: list[ApprovalInfo] = []
        while True:
            answer = await self._connection.ask(pb.Engine.Approvals, request)
            approvals.extend(_reading.approval(approval) for approval in answer.approvals)
            if not answer.HasField("next"):
                return approvals
            request.cursor = answer.next

    async def approve(self, id: str, data: Any = None, comment: str | None = None, by: str | None = None) -> str:
        """Says yes to an approval, or to an execution that has exactly one open; returns the execution's id.

        `data` is the answer, `{}` when left out; `by` says who decided, this machine's user when left out.
        """
        answer = "{}" if data is None else encode(data, "the answer")
        request = pb.ApproveRequest(id=id, data=answer, comment=comment, by=by or person())
        return (await self._connection.ask(pb.Engine.Approve, request)).execution_id

    async def reject(self, id: str, reason: str, by: str | None = None) -> str:
        """Says no to an approval, or to an execution that has exactly one open; returns the execution's id."""
        request = pb.RejectRequest(id=id, reason=reason, by=by or person())
        return (await self._connection.ask(pb.Engine.Reject, request)).execution_id

    async def signal(self, execution_id: str, name: str, data: Any = None) -> None:
        """Sends a message to an execution; one that comes early waits for its reader."""
        request = pb.SignalRequest(execution_id=execution_id, name=name, data=encode(data, "the signal's data"))
        await self._connection.ask(pb.Engine.Signal, request)

    # Steering

    async def cancel(self, execution_id: str) -> None:
        """Requests the end of an execution: its open calls fail with kind `cancelled`, its clean-up code runs."""
        await self._connection.ask(pb.Engine.Cancel, pb.CancelRequest(execution_id=execution_id))

    async def terminate(self, execution_id: str) -> None:
        """Ends an execution without clean-up."""
        await self._connection.ask(pb.Engine.Terminate, pb.TerminateRequest(execution_id=execution_id))

    async def pause(self, execution_id: str) -> None:
        """Lets running attempts finish and starts nothing new."""
        await self._connection.ask(pb.Engine.Pause, pb.PauseRequest(execution_id=execution_id))

    async def resume_execution(self, execution_id: str, *, force: bool = False) -> None:
        """Goes on with what is paused, parked or failed. Steps that completed do not run again.

        A failed execution whose code made further calls after the failure is refused, because resuming does not undo
        them; `force=True` insists.
        """
        await self._connection.ask(pb.Engine.Resume, pb.ResumeRequest(execution_id=execution_id, force=force))

    async def delete(self, execution_id: str) -> None:
        """Deletes an execution that has ended."""
        await self._connection.ask(pb.Engine.Delete, pb.DeleteRequest(execution_id=execution_id))


def _completed(status: ExecutionStatus) -> ExecutionResult:
    result = ExecutionResult(
        execution_id=status.execution_id,
        status=status.state.value,
        output=status.output,
        error=status.error,
        started_at=status.started_at,
        completed_at=status.ended_at,
        failure=status.failure,
    )
    if status.state is ExecutionState.COMPLETED:
        return result
    step = status.failed_step
    raise ExecutionError(status.error or f"it is {status.state}", step.name if step else None, status.failure, result)


def _fresh_id() -> str:
    # Drawn here, not by the engine, so that a repeated start cannot make a second execution. Sortable by time.
    return f"{time.time_ns() // 1_000_000:011x}-{secrets.token_hex(8)}"


def _pieces(name: str | None, file_name: str, content: bytes) -> Iterator[pb.UploadRequest]:
    # An empty file is sent as one empty piece: the engine has the best error message for it.
    for start in range(0, max(len(content), 1), CHUNK_BYTES):
        yield pb.UploadRequest(name=name, file_name=file_name, chunk=content[start : start + CHUNK_BYTES])


def _word(status: ExecutionState | str | None) -> str | None:
    if status is None:
        return None
    known = [state.value for state in ExecutionState if state is not ExecutionState.UNSPECIFIED]
    word = status.value if isinstance(status, ExecutionState) else status
    if word not in known:
        raise InvalidRequest(f"there is no status {word!r}: use one of {', '.join(known)}")
    return word


def _seconds(time: SecondsDuration) -> float:
    return from_seconds(time, "a timeout").total_seconds()
