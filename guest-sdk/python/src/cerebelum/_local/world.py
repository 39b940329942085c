"""Everything of this process that local executions share: the clock, names, people, the outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .._host import Approval, HttpRequest, HttpResponse
from ..errors import Failure
from ..registry import registry
from . import limits
from .executions import Execution
from .people import Asked, from_callback
from .scopes import Body, run_scope
from .show import bar, line
from .stepping import StepRun, Target

if TYPE_CHECKING:
    from ..steps import AnyStep
    from ..workflows import AnyWorkflow
    from .host import Call, LocalHost

T = TypeVar("T")


class World:
    """A process that runs workflows. The test kit's world overrides what stands below "For a test"."""

    def __init__(self, approve: Callable[[Asked], Any] | None = None) -> None:
        self.executions: dict[str, Execution] = {}
        # Hosts of scopes that run, in the order in which they began.
        self.hosts: dict[LocalHost, None] = {}
        # Tasks of ended scopes that still clean up.
        self.dying: set[asyncio.Task[Any]] = set()
        self._approve = approve
        self._one_at_a_time: asyncio.Lock | None = None
        self._began_s, self._origin_s = time.time(), time.monotonic()

    def start(self, target: Target, input: str, id: str | None) -> Execution:
        """Starts an execution for a client. The same start again is answered with the one that is there.

        # Raises
        Failure of kind `conflict` when the id is taken by something else.
        """
        id = limits.execution_id(id or fresh_id())
        there = self.executions.get(id)
        if there is None:
            return self._begin(Execution(self, target, input, id))
        if there.workflow != target.name or json.loads(there.input) != json.loads(input):
            message = f"an execution '{id}' exists with another workflow or input"
            raise Failure(message, kind="conflict", retryable=False)
        return there

    def start_child(self, target: Target, input: str, id: str, call: Call) -> Execution:
        """Starts an execution for a call of another one. The same call again, by the next attempt of a step, is
        answered with the one that is there.

        # Raises
        Failure of kind `conflict` when the id belongs to an execution that a client or another call started.
        """
        id = limits.execution_id(id)
        there = self.executions.get(id)
        if there is None:
            return self._begin(Execution(self, target, input, id, call))
        if there.started_by is None or not there.started_by.is_same(call):
            message = f"the execution id `{id}` is taken by another execution"
            raise Failure(message, kind="conflict", retryable=False)
        return there

    def _begin(self, execution: Execution) -> Execution:
        self.executions[execution.id] = execution
        execution.begin()
        return execution

    def step(self, step: AnyStep | str) -> Target:
        """What a step's name stands for.

        # Raises
        Failure of kind `not-found`.
        """
        name = step if isinstance(step, str) else step.name
        found = registry.steps.get(name) if isinstance(step, str) else step
        instead = self.instead("step", name, found)
        if found is None and instead is None:
            raise missing("step", name, registry.steps)
        if found is None:
            return Target(name, instead or unreachable)
        return Target(name, instead or found.run, found.options)

    def workflow(self, workflow: AnyWorkflow | str) -> Target:
        """What a workflow's name stands for.

        # Raises
        Failure of kind `not-found`.
        """
        name = workflow if isinstance(workflow, str) else workflow.name
        found = registry.workflows.get(name) if isinstance(workflow, str) else workflow
        instead = self.instead("workflow", name, found)
        if found is None and instead is None:
            raise missing("workflow", name, registry.workflows)
        grace = found.cancel_grace_ms if found else None
        return Target(name, instead or (found.run if found else unreachable), cancel_grace_ms=grace)

    @contextlib.contextmanager
    def alive(self, host: LocalHost) -> Iterator[None]:
        """While this lasts, the host's scope runs."""
        self.hosts[host] = None
        try:
            yield
        finally:
            del self.hosts[host]

    async def end(self) -> None:
        """Cancels what still runs, with a moment for clean-up that makes no durable call."""
        for execution in self.executions.values():
            execution.terminate()
        tasks = {execution._task for execution in self.executions.values() if execution._task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        dying = {task for task in self.dying if not task.done()}
        if dying:
            await asyncio.wait(dying, timeout=1.0)

    # -- For a test --

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        with contextlib.suppress(RuntimeError):
            # A loop with a clock of its own comes first.
            loop_now_ms = getattr(asyncio.get_running_loop(), "now_ms", None)
            if loop_now_ms is not None:
                return int(loop_now_ms())
        return round((self._began_s + time.monotonic() - self._origin_s) * 1_000)

    def chance(self) -> float:
        """A draw in 0..1."""
        return random.random()

    def moved(self) -> None:
        """A durable call is made."""

    def timeout_ms(self, timeout_ms: int | None) -> int | None:
        """What bounds a step's stretches here."""
        return timeout_ms

    def instead(self, sort: str, name: str, found: AnyStep | AnyWorkflow | None) -> Body | None:
        """The replacement of a step or workflow."""
        return None

    def step_runs(self, run: StepRun) -> None:
        """Called for every call of a step."""

    async def run_workflow(self, host: LocalHost, body: Body, input: str) -> str:
        """Runs a workflow's code."""
        return await run_scope(host, body, input)

    async def decide(self, asked: Asked) -> Approval:
        """A person's answer."""
        if self._approve is not None:
            return await from_callback(self._approve, asked)
        from .. import _terminal

        self._one_at_a_time = self._one_at_a_time or asyncio.Lock()
        async with self._one_at_a_time:
            return await _terminal.ask(asked)

    async def fetch(self, request: HttpRequest, idempotency_key: str) -> HttpResponse:
        """A server's answer."""
        from .. import _fetch

        return await _fetch.fetch(request, idempotency_key)

    def show_progress(self, name: str, percent: int, message: str) -> None:
        """Shows how far a scope is."""
        bar(name, percent, message)

    def show_line(self, name: str, level: str, message: str) -> None:
        """Shows a log line."""
        line(name, level, message)


def fresh_id() -> str:
    """An id that no other execution has."""
    return f"local-{uuid.uuid4().hex}"


def missing(sort: str, name: str, known: dict[str, Any]) -> Failure:
    """Why there is no such step or workflow."""
    component, slash, _ = name.partition("/")
    if slash:
        message = (
            f"{sort} '{name}' belongs to component '{component}', which only an engine knows; "
            f"in a test something can stand in for it: Local().replace({name!r}, …)"
        )
    else:
        message = f"there is no {sort} '{name}' in this program; it has: {', '.join(sorted(known)) or 'none'}"
    return Failure(message, kind="not-found", retryable=False)


async def unreachable(_: str) -> str:
    """A placeholder that is never called."""
    raise AssertionError("a target has a body")
