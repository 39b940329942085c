"""The script of a test, and its runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .. import _values
from .._local import until_ended
from .._local.stepping import Target
from ..durations import Duration, ms
from ..errors import Failure, failure_of
from ..steps import Step, call_by_text
from ..workflows import Workflow
from .clock import VirtualLoop, run_on
from .order import in_order
from .run import Run
from .script import Failing, Script
from .world import Stage

if TYPE_CHECKING:
    from .._local.executions import Execution
    from ..steps import AnyStep
    from ..workflows import AnyWorkflow

ID = "local"


class Local:
    """A test's world: who answers, and when things happen. `run` runs a workflow in it, any number of times.

    By default every step and workflow is the real one, no approval is answered, and time begins at midnight of
    1 January 2000, UTC. The methods return the same object, so that calls can be chained.
    """

    def __init__(self, *, start: datetime | None = None, seed: int | None = None) -> None:
        """Makes one.

        Args:
            start: when it begins; a time without a zone is UTC.
            seed: draws the jitter of retries; without it there is none.
        """
        self._start = start.replace(tzinfo=timezone.utc) if start and start.tzinfo is None else start
        self._script = Script(seed=seed)

    def replace(self, what: AnyStep | AnyWorkflow | str, instead: Any) -> Local:
        """Puts something in the place of a step or workflow.

        Args:
            what: the step or workflow, or its name; `component/name` for those of other components.
            instead: a function, sync or async, called once per attempt with what the step is called with, the context
                left out unless it names it; or the output itself. Retries are those of the real step.
        """
        sorts = {Step: ("step",), Workflow: ("workflow",)}.get(type(what), ("step", "workflow"))
        for sort in sorts:
            self._script.instead[sort, name_of(what)] = instead
        return self

    def fail(
        self, step: AnyStep | str, times: int | None = 1, error: BaseException | str = "made to fail by the test"
    ) -> Local:
        """Makes the first attempts of a step fail; then it is what it is, or what stands in its place.

        Args:
            step: the step or its name.
            times: attempts of the whole run, over all calls; None makes all of them fail.
            error: a message, or an exception as the step would raise it; a `Failure` says kind and retryable.
        """
        failure = Failure(error) if isinstance(error, str) else failure_of(error)
        self._script.failing[name_of(step)] = Failing(times, failure)
        return self

    def on_approval(self, title: str | None, answer: Any, *, kind: str | None = None) -> Local:
        """Answers questions of this title, and of this kind if one is given; None stands for any title.

        Args:
            title: the question.
            answer: `approve(…)`, `reject(…)` or `silence()`; or a function that is handed an `Asked` and returns one
                of these, or what `approve` of `execute` returns.
            kind: the sort of approval.
        """
        self._script.approvals.append((title, kind, answer))
        return self

    def signal(self, name: str, data: Any = None, *, after: Duration = 0) -> Local:
        """Sends a signal this long after the start: a timedelta, text such as `"2d"`, or milliseconds. At the start
        nothing waits for it yet.
        """
        text = _values.encode(data, f"signal '{name}'")
        self._script.signals.append((ms(after, "a signal's delay"), name, text))
        return self

    def on_http(self, server: Callable[..., Any]) -> Local:
        """Answers all requests of steps: a function, sync or async, from an `HttpRequest` to `reply(…)`.

        Secrets still stand as `{{secret:NAME}}`. What it raises is what the step sees.
        """
        self._script.http = server
        return self

    def cancel(self, *, after: Duration = 0) -> Local:
        """Cancels the execution this long after the start: a timedelta, text such as `"2d"`, or milliseconds."""
        self._script.cancel_ms = ms(after, "a cancel's delay")
        return self

    def hibernating(self) -> Local:
        """Drops the workflow at every wait and reruns it afterwards, as an engine short of memory would.

        A workflow that asks for something else on a rerun fails with kind `diverged`.
        """
        self._script.is_hibernating = True
        return self

    def run(self, workflow: AnyWorkflow, inputs: Any = None, *, execution_id: str = ID) -> Run:
        """Runs a workflow to its end, or until it waits for something that nothing in this world brings about.

        # Raises
        TypeError when the input is not JSON or this is not a workflow, WorkflowDefinitionError when the workflow has
        problems.
        """
        refuse_other(workflow, Workflow)
        if workflow.is_timeline:
            _ = workflow.definition
        text = _values.encode(inputs, f"the input of workflow '{workflow.name}'")
        return self._run(lambda stage: stage.workflow(workflow), text, execution_id)

    async def run_async(self, workflow: AnyWorkflow, inputs: Any = None, *, execution_id: str = ID) -> Run:
        """The same in an async test. It runs on a loop of its own, in a thread."""
        return await asyncio.to_thread(self.run, workflow, inputs, execution_id=execution_id)

    def run_step(self, step: AnyStep, *args: Any, **kwargs: Any) -> Run:
        """Runs a step as if a workflow had called it, with its retries. Arguments are those besides the context.

        # Raises
        TypeError for wrong arguments, and when this is not a step.
        """
        refuse_other(step, Step)
        text = step.signature.encode(args, kwargs, f"the input of step '{step.name}'")

        async def call(input: str) -> str:
            return await call_by_text(step, step.name, input, step.options)

        return self._run(lambda _: Target(f"call of {step.name}", call), text, ID)

    def _run(self, target: Callable[[Stage], Target], input: str, id: str) -> Run:
        def play() -> Run:
            loop, stage = VirtualLoop(self._start), Stage(self._script.fresh())
            loop.on_standstill = stage.stand_still
            loop.on_spin = lambda: stage.stop_spinning(loop.ready_contexts())
            with in_order():
                return run_on(loop, played(stage, target(stage), input, id))

        # Not within a `try`: a failure of the workflow would appear as a consequence of this exception.
        if asyncio.events._get_running_loop() is None:
            return play()
        # Two loops cannot run in one thread.
        return in_another_thread(play)


async def played(stage: Stage, target: Target, input: str, id: str) -> Run:
    """Plays a test's script, from the start to the end."""
    loop, script = asyncio.get_running_loop(), stage.script
    stage.main = execution = stage.start(target, input, id)
    for after_ms, name, data in script.signals:
        send(loop, execution, after_ms, name, data)
    if script.cancel_ms is not None:
        loop.call_later(script.cancel_ms / 1_000, execution.cancel)
    try:
        await until_ended(stage, execution)
    finally:
        await stage.end()
    return Run(stage, execution)


def send(loop: asyncio.AbstractEventLoop, execution: Execution, after_ms: int, name: str, data: str) -> None:
    """Sends a signal, now or later."""
    if after_ms == 0:
        execution.signals.send(name, data)
    else:
        loop.call_later(after_ms / 1_000, execution.signals.send, name, data)


def in_another_thread(play: Callable[[], Run]) -> Run:
    """What a function returns that needs a thread without a running loop."""
    runs: list[Run] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            runs.append(play())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="cerebelum-test")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return runs[0]


def refuse_other(given: object, wanted: type[AnyStep] | type[AnyWorkflow]) -> None:
    """A check of what is to be run.

    # Raises
    TypeError that names the right method, when it is not of the wanted sort.
    """
    if isinstance(given, wanted):
        return
    if isinstance(given, Step):
        raise TypeError(f"'{given.name}' is a step: use run_step")
    if isinstance(given, Workflow):
        raise TypeError(f"'{given.name}' is a workflow: use run")
    raise TypeError(f"run takes a workflow, run_step a step, not {given!r}")


def name_of(what: AnyStep | AnyWorkflow | str) -> str:
    """The name of a step or workflow."""
    return what if isinstance(what, str) else what.name
