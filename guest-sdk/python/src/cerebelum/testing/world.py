"""The world of a test: it follows a script and records everything that happens."""

from __future__ import annotations

import asyncio
import contextvars
import random
from typing import TYPE_CHECKING, Any

from .._host import Approval, HttpRequest, HttpResponse
from .._local.people import Asked
from .._local.scopes import Body, release
from .._local.world import World
from .._states import ExecutionState
from ..errors import Failure, failure_of
from ..polls import settled
from .clock import VirtualLoop, spinning
from .reruns import rerun_scope
from .script import Script, call_instead, decision_of

if TYPE_CHECKING:
    from .._local.executions import Execution
    from .._local.host import LocalHost
    from .._local.stepping import StepRun
    from ..steps import AnyStep
    from ..workflows import AnyWorkflow

DEADLOCK = "the guest waits, but for no call that is open: nothing can wake it"
# Waits that only the outside world can end.
OUTSIDE = ("approval", "signal")


class Stage(World):
    """See `World`."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.main: Execution | None = None
        self.is_stuck = False
        self.steps: list[StepRun] = []
        self.logs: list[tuple[str, str, str]] = []
        self.progress: list[tuple[str, int, str]] = []
        self._chance = None if script.seed is None else random.Random(script.seed)

    def chance(self) -> float:
        """The middle, so that delays are what the policy says; with a seed, its draws."""
        return 0.5 if self._chance is None else self._chance.random()

    def moved(self) -> None:
        """Tells the clock."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop):
            loop.moved()

    def timeout_ms(self, timeout_ms: int | None) -> int | None:
        """None: code takes no time by this clock, and waits do not count."""
        return None

    def instead(self, sort: str, name: str, found: AnyStep | AnyWorkflow | None) -> Body | None:
        """What the test put in the place of a step or workflow."""
        place = (sort, name)
        failing = self.script.failing.get(name) if sort == "step" else None
        if place not in self.script.instead and failing is None:
            return None
        takes = None if found is None or getattr(found, "is_timeline", False) else found.signature

        async def body(input: str) -> str:
            if failing is not None:
                failing.strike()
            if place in self.script.instead:
                return await call_instead(self.script.instead[place], takes, input, f"{sort} '{name}'")
            if found is not None:
                return await found.run(input)
            return "null"

        return body

    def step_runs(self, run: StepRun) -> None:
        """Writes it down."""
        self.steps.append(run)

    async def run_workflow(self, host: LocalHost, body: Body, input: str) -> str:
        """Runs a workflow's code, and reruns it after every wait if the test asks for that."""
        if self.script.is_hibernating:
            return await rerun_scope(host, body, input)
        return await super().run_workflow(host, body, input)

    async def decide(self, asked: Asked) -> Approval:
        """What the test says about a question."""
        answer = self.script.answer_to(asked)
        if callable(answer):
            answer = await settled(answer(asked))
        elif answer is None:
            return await asyncio.Future()
        decision = decision_of(answer)
        if decision.verdict == "silence":
            return await asyncio.Future()
        await asyncio.sleep(decision.after_ms / 1_000)
        return decision.approval()

    async def fetch(self, request: HttpRequest, idempotency_key: str) -> HttpResponse:
        """What the test's server answers."""
        if self.script.http is None:
            message = f"nothing in this test answers {request.method} {request.url}: see Local.on_http"
            raise Failure(message, kind="http-connect")
        if not any(name.lower() == "idempotency-key" for name, _ in request.headers):
            headers = [*request.headers, ("idempotency-key", idempotency_key)]
            request = HttpRequest(request.method, request.url, headers, request.body, request.timeout_ms)
        try:
            answer: HttpResponse = await settled(self.script.http(request))
        except Exception as error:
            raise failure_of(error) from error
        return answer

    def show_progress(self, name: str, percent: int, message: str) -> None:
        """Writes it down."""
        self.progress.append((name, percent, message))

    def show_line(self, name: str, level: str, message: str) -> None:
        """Writes it down."""
        self.logs.append((name, level, message))

    def stand_still(self, why: str) -> bool:
        """Nothing can move any more: fails the scopes in a deadlock, or else ends the run."""
        moved = False
        for host in list(self.hosts):
            if host.waiting:
                continue
            details = {"traceback": host.scope.places()}
            if host.scope.decide(Failure(DEADLOCK, kind="deadlock", details=details, retryable=False)):
                moved = True
            elif host.scope.rest is not None and not host.scope.rest.done():
                release(host.scope.rest)
                moved = True
        return moved or self._give_up(why)

    def stop_spinning(self, contexts: list[contextvars.Context]) -> bool:
        """Ends the scopes that keep time from passing, as an engine does with those that use up their CPU time.
        Whether there was one to end."""
        from .._host import _scope

        has_ended = False
        for host in {id(host): host for host in (context.get(_scope) for context in contexts)}.values():
            scope = getattr(host, "scope", None)
            if scope is None:
                continue
            has_ended |= scope.decide(spinning(scope.running()))
            if scope.rest is not None and not scope.rest.done():
                release(scope.rest)
                has_ended = True
        return has_ended

    def _give_up(self, why: str) -> bool:
        moved = False
        running = [execution for execution in self.executions.values() if execution.status == ExecutionState.RUNNING]
        for execution in running:
            message = f"{waits_of(self)}, and nothing in this test brings that about" if waits_of(self) else why
            self.is_stuck |= execution is self.main
            moved |= execution.host.scope.decide(Failure(message, kind="waiting", retryable=False))
        for host in list(self.hosts):
            if host.scope.rest is not None and not host.scope.rest.done():
                release(host.scope.rest)
                moved = True
        return moved


def waits_of(stage: Stage) -> str:
    """The waits that only the outside world can end."""
    waits: dict[str, Any] = {}
    for host in stage.hosts:
        for waiting in host.waiting.values():
            if waiting.sort in OUTSIDE:
                waits[f"{waiting.sort} '{waiting.name}'"] = None
    return f"waits for {', '.join(waits)}" if waits else ""
