"""The host of a workflow that is rerun: repeated calls are answered from the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .._host import Approval, ApprovalRequest, HttpRequest, HttpResponse, Info, PollPolicy, StepOptions
from .._local.limits import raised_to_caller, recorded
from .._local.scopes import Continued
from ..errors import Failure
from .journal import Outcome

if TYPE_CHECKING:
    from ..steps import AnyStep
    from ..workflows import AnyWorkflow
    from .guest import Guest


class ReplayHost:
    """See `Host`."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._host = guest.host

    def info(self) -> Info:
        """The identity of this scope."""
        return self._host.info()

    def now_ms(self) -> int:
        """The time of the last outcome."""
        return self._guest.clock_ms

    async def sleep(self, duration_ms: int) -> None:
        """Waits."""
        if duration_ms > 0:
            await self._call(f"a sleep of {duration_ms} ms", lambda: self._host.sleep(duration_ms))

    async def run_step(self, step: AnyStep | str, input: str, options: StepOptions) -> str:
        """Runs a step to its end."""
        what = f"step '{name_of(step)}' with {input}"
        return str(await self._call(what, lambda: self._host.run_step(step, input, options)))

    async def poll(self, check: AnyStep | str, input: str, policy: PollPolicy) -> str:
        """Runs a check step until it is ready."""
        what = f"a poll of '{name_of(check)}' with {input}"
        return str(await self._call(what, lambda: self._host.poll(check, input, policy)))

    async def await_approval(self, request: ApprovalRequest) -> Approval:
        """Asks a person."""
        what = f"approval '{request.title}' with {request.data}"
        approval: Approval = await self._call(what, lambda: self._host.await_approval(request))
        return approval

    async def await_signal(self, name: str, timeout_ms: int | None) -> str:
        """Waits for a signal."""
        return str(await self._call(f"signal '{name}'", lambda: self._host.await_signal(name, timeout_ms)))

    async def run_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Runs a child to its end."""
        what = f"workflow '{name_of(workflow)}' with {input}"
        return str(await self._call(what, lambda: self._host.run_workflow(workflow, input, id)))

    async def start_workflow(self, workflow: AnyWorkflow | str, input: str, id: str | None) -> str:
        """Starts an execution that outlives this one."""
        what = f"the start of workflow '{name_of(workflow)}' with {input}"
        return str(await self._call(what, lambda: self._host.start_workflow(workflow, input, id)))

    async def continue_as_new(self, input: str) -> None:
        """Ends this run."""
        if self._guest.end is None:
            self._guest.end = Outcome(error=Continued(input))

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """Workflows do not."""
        return await self._host.fetch(request)

    def progress(self, percent: int, message: str) -> None:
        """The latest progress; not again."""
        if self._is_new:
            self._host.progress(percent, message)

    def log(self, level: str, message: str) -> None:
        """A line for the log; not again."""
        if self._is_new:
            self._host.log(level, message)

    def set_attribute(self, name: str, value: str) -> None:
        """Sets an attribute; not again."""
        if self._is_new:
            self._host.set_attribute(name, value)

    @property
    def _is_new(self) -> bool:
        return not self._guest.is_repeating and not self._guest.is_dropped

    async def _call(self, what: str, perform: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        guest = self._guest
        if guest.is_dropped:
            raise asyncio.CancelledError("the guest is no longer in memory")
        ordinal, future = guest.new_call(what, perform)
        try:
            return await future
        except Failure as failure:
            # Every rerun gets an exception of its own, since code that catches one changes its traceback and details.
            raise raised_to_caller(recorded(failure)) from None
        except asyncio.CancelledError:
            if guest.waiting.pop(ordinal, None) is not None:
                guest.gave_up.append(ordinal)
            raise


def name_of(called: AnyStep | AnyWorkflow | str) -> str:
    """The name of a step or workflow."""
    return called if isinstance(called, str) else called.name
