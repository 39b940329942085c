"""The host of code that runs outside of any workflow or step: a script, a notebook, a test of a helper."""

from __future__ import annotations

from .._host import HttpRequest, HttpResponse, StepOptions
from ..errors import ContextError
from ..steps import AnyStep
from .executions import Execution
from .host import Call, LocalHost
from .scopes import Body
from .stepping import Target
from .world import World


class Outside(LocalHost):
    """A scope that never begins and never ends."""

    def seen_as(self, name: str) -> Outside:
        """The same scope under another name."""
        return Outside(self.execution, step=name)

    async def run_step(self, step: AnyStep | str, input: str, options: StepOptions) -> str:
        """Runs a step to its end."""
        return await super().run_step(step, input, options)

    def start(self, target: Target, input: str, id: str | None, call: Call) -> Execution:
        """Starts an execution as a client does: the same start again is answered with the one that is there."""
        return self.world.start(target, input, id or self._child_id(call.path))

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """Sends a request, which only workflows must not."""
        return await self._call("fetch", request.url, lambda _: self.world.fetch(request, self._call_key()))

    async def continue_as_new(self, input: str) -> None:
        """Refused: there is no run to end."""
        raise ContextError("continue_as_new() was called outside of a workflow")

    async def await_signal(self, name: str, timeout_ms: int | None) -> str:
        """Refused: there is no execution to which a signal could be sent."""
        raise ContextError(f"wait_for_signal({name!r}) was called outside of a workflow: no signal can arrive there")


async def _nothing(_: str) -> str:
    return "null"


_body: Body = _nothing
OUTSIDE = Outside(Execution(World(), Target("anonymous", _body), "null", "anonymous"))
