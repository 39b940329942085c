"""Steps: units of effects, each in a sandbox of its own, tried again when they fail."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, overload

from . import _values
from ._envelope import opened
from ._host import RetryPolicy, StepOptions, current
from ._signature import Signature
from ._tasks import named
from .context import Context
from .durations import Duration, ms, optional_ms
from .errors import Failure, SerializationError, StepDefinitionError, StepError
from .registry import check_name, registry

if TYPE_CHECKING:
    from .timeline.compose import StepComposition

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS_MAX = 2**32 - 1


class Retry(TypedDict, total=False):
    """A retry policy as authors write it: `retry={"max_attempts": 5, "delay": 1000, "backoff": 2.0}`.

    Durations are timedelta, text such as `"30s"`, or numbers of milliseconds. The defaults are 3 attempts, 1 s,
    factor 2, at most 5 min, 20 % jitter.
    """

    max_attempts: int
    delay: Duration
    backoff: float
    max_delay: Duration
    jitter: float


# The number of attempts, or the whole policy.
RetryOption: TypeAlias = "int | Retry | Mapping[str, Any]"


class Step(Generic[P, R]):
    """An async function that is a step; call it like the function: `await create(context, order)`."""

    def __init__(self, function: Callable[P, Awaitable[R]], name: str, options: StepOptions) -> None:
        self.function = function
        self.name = name
        self.options = options
        self.signature = Signature(function)
        self.summary = inspect.getdoc(function)
        self.__name__ = name
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.__module__ = function.__module__

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Runs the step and yields its result.

        # Raises
        StepError when it fails for good, TypeError for wrong arguments.
        """
        rest, keywords = self.signature.without_context(args, kwargs, f"step '{self.name}'")
        input = self.signature.encode(rest, keywords, f"the input of step '{self.name}'")
        return named(self.call(input), self.name)

    def with_options(
        self, *, retry: RetryOption | None = None, timeout: Duration | None = None, deadline: Duration | None = None
    ) -> Step[P, R]:
        """The same step with other limits: `await create.with_options(timeout=5000)(context, order)`."""
        declared, asked = self.options, options_of(self.name, retry, timeout, deadline)
        options = StepOptions(
            retry=asked.retry or declared.retry,
            timeout_ms=declared.timeout_ms if asked.timeout_ms is None else asked.timeout_ms,
            deadline_ms=declared.deadline_ms if asked.deadline_ms is None else asked.deadline_ms,
        )
        return Step(self.function, self.name, options)

    async def call(self, input: str) -> R:
        """Runs the step on JSON text."""
        output = await call_by_text(self, self.name, input, self.options)
        result: R = _values.decode(output, self.signature.returns, f"the output of step '{self.name}'")
        return result

    async def run(self, input: str) -> str:
        """The implementation: runs the step's function in the current scope, from JSON text to JSON text.

        # Raises
        Whatever the function raises.
        """
        try:
            arguments = self.signature.decode(input, f"the input of step '{self.name}'")
        except SerializationError as error:
            raise Failure(str(error), kind="schema-mismatch", retryable=False) from None
        context = Context.of(current(), next(iter(arguments.values()), None) if len(arguments) < 2 else arguments)
        value = opened(await self.function(context, **arguments))  # type: ignore[arg-type]
        try:
            return _values.encode(value, f"the output of step '{self.name}'")
        except SerializationError as error:
            raise Failure(str(error), kind="invalid-output", retryable=False) from None

    def __rshift__(self, following: object) -> StepComposition:
        """This, then that."""
        from .timeline.compose import sequence

        return sequence(self, following)

    def __rrshift__(self, preceding: object) -> StepComposition:
        """A list of steps in parallel, then this."""
        from .timeline.compose import sequence

        return sequence(preceding, self)


def refuse_step(function: object) -> None:
    """A check for decorators that belong below `@step`.

    # Raises
    StepDefinitionError when they stand above it.
    """
    if isinstance(function, Step):
        raise StepDefinitionError(function.name, "@step stands above @sleep, @poll and @approval")


AnyStep: TypeAlias = "Step[Any, Any]"


async def call_by_text(step: AnyStep | str, name: str, input: str, options: StepOptions) -> str:
    """Runs a step, JSON text in and out.

    # Raises
    StepError when it fails for good.
    """
    try:
        return await current().run_step(step, input, options)
    except Failure as failure:
        raise StepError(name, failure) from None


def policy_of(step: str, retry: RetryOption | None) -> RetryPolicy | None:
    """A retry policy from the forms in which one may be written."""
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    given: Mapping[str, Any] = {"max_attempts": retry} if isinstance(retry, int) else retry
    known = {"max_attempts", "delay", "backoff", "max_delay", "jitter"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise StepDefinitionError(
            step, f"retry does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}"
        )
    default = RetryPolicy()
    policy = RetryPolicy(
        max_attempts=given.get("max_attempts", default.max_attempts),
        delay_ms=ms(given.get("delay", default.delay_ms), "the delay of a retry"),
        backoff=float(given.get("backoff", default.backoff)),
        max_delay_ms=ms(given.get("max_delay", default.max_delay_ms), "the longest delay of a retry"),
        jitter=float(given.get("jitter", default.jitter)),
    )
    if not isinstance(policy.max_attempts, int) or not 1 <= policy.max_attempts <= ATTEMPTS_MAX:
        raise StepDefinitionError(step, f"retry takes 1 to {ATTEMPTS_MAX} attempts, not {policy.max_attempts!r}")
    if not (math.isfinite(policy.backoff) and math.isfinite(policy.jitter)):
        raise StepDefinitionError(step, "backoff and jitter of a retry are finite numbers")
    return policy


def options_of(
    step: str, retry: RetryOption | None, timeout: Duration | None, deadline: Duration | None
) -> StepOptions:
    """A step's limits from the forms in which they may be written."""
    return StepOptions(
        retry=policy_of(step, retry),
        timeout_ms=optional_ms(timeout, "a step's timeout"),
        deadline_ms=optional_ms(deadline, "a step's deadline"),
    )


@overload
def step(function: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...


@overload
def step(
    *,
    name: str | None = None,
    retry: RetryOption | None = None,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Step[P, R]]: ...


def step(
    function: Callable[P, Awaitable[R]] | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryOption | None = None,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
) -> Step[P, R] | Callable[[Callable[P, Awaitable[R]]], Step[P, R]]:
    """Makes `async def name(context, …)` a step.

    Args:
        function: the function, when the decorator is used without parentheses.
        name: the step's name; the function's when left out.
        retry: attempts, or a whole policy; 3 attempts when left out.
        timeout: the limit of each stretch between durable waits, without the waits.
        deadline: the limit of the whole step, with retries and waits.

    # Raises
    StepDefinitionError when the function cannot be a step.
    """

    def define(function: Callable[P, Awaitable[R]]) -> Step[P, R]:
        if isinstance(function, Step):
            raise StepDefinitionError(function.name, "is a step already: @step stands once, above all other decorators")
        called = name or str(getattr(function, "__name__", "step"))
        check_name("step", called)
        if inspect.isasyncgenfunction(function):
            raise StepDefinitionError(called, "Step functions return a value; one with 'yield' cannot be a step.")
        if not inspect.iscoroutinefunction(function):
            raise StepDefinitionError(called, "Step functions must be async. Use 'async def' to define the function.")
        made = Step(function, called, options_of(called, retry, timeout, deadline))
        problems = made.signature.problems()
        if problems:
            example = f"\nExample:\n    @step\n    async def {called}(context: Context, inputs: dict) -> dict: ..."
            raise StepDefinitionError(called, "; ".join(problems) + example)
        registry.add_step(made)
        return made

    return define if function is None else define(function)
