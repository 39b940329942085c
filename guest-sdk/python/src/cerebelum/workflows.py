"""Workflows: the order of steps, as an async function or as a timeline."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from . import _values
from ._envelope import opened
from ._host import current
from ._signature import Signature
from ._tasks import named
from .context import Context
from .durations import Duration, optional_ms
from .errors import Failure, SerializationError, WorkflowDefinitionError, typed
from .registry import check_name, registry
from .results import ExecutionResult

if TYPE_CHECKING:
    from .timeline.builder import Definition
    from .timeline.validate import ValidationReport

P = ParamSpec("P")
R = TypeVar("R")


class Workflow(Generic[P, R]):
    """A workflow: run it with `await it.execute(inputs)`, or as a child with `await it(context, order)`."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        core_url: str | None = None,
        cancel_grace: Duration | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.core_url = core_url
        # How long clean-up may take after a cancel; None for no limit.
        self.cancel_grace_ms = optional_ms(cancel_grace, "cancel_grace")
        self.is_timeline = not inspect.iscoroutinefunction(function)
        self.signature = Signature(function)
        # How a workflow calls it as a child; the one parameter of a timeline's function is the timeline's builder.
        self._call_signature = _timeline_signature(name) if self.is_timeline else self.signature
        self.summary = inspect.getdoc(function)
        self._definition: Definition | None = None
        self.__name__ = name
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.__module__ = function.__module__

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"

    @property
    def definition(self) -> Definition:
        """The timeline with its rules, of a workflow that is one.

        # Raises
        WorkflowDefinitionError with all its problems.
        """
        if self._definition is None:
            from .timeline.builder import build

            self._definition = build(self.function, self.name)
        return self._definition

    @property
    def plan(self) -> dict[str, Any] | None:
        """The plan of a timeline, as the engine draws it; None of an `async def`, and while there are problems."""
        if not self.is_timeline:
            return None
        from .timeline.plan import plan_of

        try:
            return plan_of(self.definition)
        except WorkflowDefinitionError:
            return None

    def validate(self) -> ValidationReport:
        """All errors and warnings at once, without raising."""
        from .timeline.validate import report

        return report(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Runs the workflow as a child execution of the running one and yields its output.

        A timeline takes one input, which may be left out. `run_workflow(…, id=…)` gives the child an id of its own.

        # Raises
        Failure when it fails, TypeError for wrong arguments.
        """
        rest, keywords = self._call_signature.without_context(args, kwargs, f"workflow '{self.name}'")
        input = self._call_signature.encode(rest, keywords, f"the input of workflow '{self.name}'")
        return named(self.call(input), self.name)

    async def call(self, input: str, id: str | None = None) -> R:
        """Runs the workflow as a child on JSON text, under this id if there is one.

        # Raises
        Failure when it fails.
        """
        try:
            output = await current().run_workflow(self, input, id)
        except Failure as failure:
            raise typed(failure) from None
        result: R = _values.decode(output, self._call_signature.returns, f"the output of workflow '{self.name}'")
        return result

    async def execute(
        self,
        inputs: Any = None,
        executor: Any = None,
        *,
        distributed: bool = False,
        execution_id: str | None = None,
        approve: Callable[..., Any] | None = None,
        signals: Mapping[str, Any] | None = None,
        core_url: str | None = None,
        token: str | None = None,
    ) -> ExecutionResult:
        """Runs the workflow and waits for its end: in this process, or on an engine.

        Args:
            inputs: the workflow's input.
            executor: anything with `execute(workflow, input_data)`, a `DistributedExecutor` say.
            distributed: whether to run it on an engine, to which its component was uploaded.
            execution_id: its id; drawn when left out. On an engine the same id twice is the same execution.
            approve: answers approvals in this process; the terminal asks when left out.
            signals: sent at once in this process: data, or a list of data, by name.
            core_url: the engine, `localhost:9090` unless `CEREBELUM_URL` says otherwise.
            token: the engine's token; `CEREBELUM_TOKEN` when left out.

        # Raises
        ExecutionError when it fails or is cancelled.
        """
        if executor is not None:
            result: ExecutionResult = await executor.execute(self, inputs)
            return result
        if distributed:
            from .client import DistributedExecutor

            async with DistributedExecutor(core_url or self.core_url, token=token) as engine:
                return await engine.execute(self, inputs, execution_id=execution_id)
        from ._local import execute

        return await execute(self, inputs, execution_id=execution_id, approve=approve, signals=signals)

    async def run(self, input: str) -> str:
        """The implementation: runs the workflow in the current scope, from JSON text to JSON text.

        # Raises
        The exception of the workflow.
        """
        what = f"the input of workflow '{self.name}'"
        if self.is_timeline:
            from .timeline.interpret import interpret

            inputs = _values.decode(input, Any, what)
            value = await interpret(self.definition, Context.of(current(), inputs))
        else:
            try:
                arguments = self.signature.decode(input, what)
            except SerializationError as error:
                raise Failure(str(error), kind="schema-mismatch", retryable=False) from None
            given = next(iter(arguments.values()), None) if len(arguments) < 2 else arguments
            value = opened(await self.function(Context.of(current(), given), **arguments))
        try:
            return _values.encode(value, f"the output of workflow '{self.name}'")
        except SerializationError as error:
            raise Failure(str(error), kind="invalid-output", retryable=False) from None


AnyWorkflow: TypeAlias = "Workflow[Any, Any]"


class Decorator(Protocol):
    """`@workflow(…)`: an async function keeps its parameters and its result, a timeline has neither."""

    @overload
    def __call__(self, function: Callable[[Any], None], /) -> Workflow[..., Any]: ...

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...


# The timeline comes first: what an untyped function returns fits both.
@overload
def workflow(function: Callable[[Any], None], /) -> Workflow[..., Any]: ...


@overload
def workflow(function: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *, name: str | None = None, core_url: str | None = None, cancel_grace: Duration | None = None
) -> Decorator: ...


def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    core_url: str | None = None,
    cancel_grace: Duration | None = None,
) -> Any:
    """Makes a function a workflow.

    `async def name(context, inputs)` runs steps with ordinary control flow; `def name(wf)` describes a timeline
    of steps: `wf.timeline(first >> second)`.

    Args:
        function: the function, when the decorator is used without parentheses.
        name: the workflow's name; the function's when left out.
        core_url: the engine that `execute(…, distributed=True)` starts it on.
        cancel_grace: how long its clean-up may take after a cancel, `timedelta(minutes=5)` say; as long as it needs
            when left out.

    # Raises
    WorkflowDefinitionError when the function cannot be a workflow.
    """

    def define(function: Callable[..., Any]) -> AnyWorkflow:
        called = name or str(getattr(function, "__name__", "workflow"))
        check_name("workflow", called)
        made: AnyWorkflow = Workflow(function, called, core_url, cancel_grace)
        problems = made.signature.problems() if not made.is_timeline else _timeline_problems(made)
        if problems:
            raise WorkflowDefinitionError(made.name, problems)
        registry.add_workflow(made)
        return made

    return define if function is None else define(function)


def _timeline_problems(made: AnyWorkflow) -> list[str]:
    if len(made.signature.names) == 1:
        return []
    hint = "an async workflow is `async def`, a timeline takes exactly one parameter: `def flow(wf)`"
    return [f"takes {made.signature.names}; {hint}"]


def _timeline_signature(name: str) -> Signature:
    """The signature by which a timeline is called as a child: one input, which may be left out."""

    async def timeline(context: Context, inputs: Any = None, /) -> Any: ...

    timeline.__name__ = name
    return Signature(timeline)
