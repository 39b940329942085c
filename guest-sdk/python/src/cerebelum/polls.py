"""Polling: in place with a function, or driven by the engine with a check step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from ._hints import check_hint, told
from ._host import PollPolicy, current
from ._tasks import named
from .durations import Duration, SecondsDuration, from_seconds, ms, optional_ms
from .errors import Failure, PollTimeout, misuse, typed
from .steps import AnyStep, Step, refuse_step

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

INTERVAL_MS = 5_000
ATTEMPTS_MAX = 30
# The shortest time between two checks.
INTERVAL_MS_MIN = 10
# What fits the contract.
ATTEMPTS_LIMIT = 2**32 - 1


def ready(value: Any = None) -> dict[str, Any]:
    """The answer of a check step that ends the poll with this value."""
    return {"ready": value}


def not_yet(seen: Any = None) -> dict[str, Any]:
    """The answer of a check step that continues the poll, with what it saw."""
    return {"not_yet": seen}


class _Poll:
    """`await poll(check, interval=5000)`, or `@poll(condition=…, interval=5)` under `@step`."""

    @overload
    def __call__(
        self,
        check_fn: AnyStep,
        /,
        *args: Any,
        interval: Duration = INTERVAL_MS,
        max_attempts: int = ATTEMPTS_MAX,
        timeout: Duration | None = None,
        returns: type[T],
    ) -> Coroutine[Any, Any, T]: ...

    # Hints that are not classes, such as `Terms | None`.
    @overload
    def __call__(
        self,
        check_fn: AnyStep,
        /,
        *args: Any,
        interval: Duration = INTERVAL_MS,
        max_attempts: int = ATTEMPTS_MAX,
        timeout: Duration | None = None,
        returns: Any,
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def __call__(
        self,
        check_fn: Callable[..., Any],
        /,
        *args: Any,
        interval: Duration = INTERVAL_MS,
        max_attempts: int = ATTEMPTS_MAX,
        timeout: Duration | None = None,
        success_condition: Callable[[Any], Any] | None = None,
        on_attempt: Callable[[int, Any], Any] | None = None,
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def __call__(
        self,
        *,
        check_fn: Callable[..., Any],
        interval: Duration = INTERVAL_MS,
        max_attempts: int = ATTEMPTS_MAX,
        timeout: Duration | None = None,
        success_condition: Callable[[Any], Any] | None = None,
        on_attempt: Callable[[int, Any], Any] | None = None,
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def __call__(
        self,
        *,
        condition: Callable[[Any], Any],
        interval: SecondsDuration = 5,
        max_attempts: int = ATTEMPTS_MAX,
        timeout: SecondsDuration | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Checks at once, then after every interval, until the condition holds. Attempts and waits are durable.

        Args:
            check_fn: a function, sync or async; or a step, which the engine then runs with `args` at every interval
                while the caller is not in memory, and which answers `ready(value)` or `not_yet(seen)`.
            args: for a step: its arguments besides the context.
            interval: from the end of a check to the next, at least 10 ms: a timedelta or text such as `"30s"`. A number
                is milliseconds here and seconds in the decorator.
            max_attempts: checks in all.
            timeout: the same sort of duration, from the start of the poll; tested before each check but the first.
            success_condition: whether a result ends the poll; its truth when left out.
            on_attempt: called after each check with its number and result.
            returns: for a step: the type of the value that it answers `ready` with; plain JSON when left out.
            condition: makes it a decorator that runs the body again until the condition holds.

        # Raises
        PollTimeout, what a check raises, and Failure of kind `schema-mismatch` when a step's value does not have the
        type that `returns` asks for. TypeError for options that it does not know.
        """
        if "condition" in options:
            _refuse_unknown(options, ("condition", *SCHEDULE))
            return _decorator(**options)
        check = args[0] if args else options.pop("check_fn", None)
        if not callable(check):
            raise misuse("poll takes a function to call, or @poll(condition=…) a condition")
        if isinstance(check, Step):
            if "success_condition" in options or "on_attempt" in options:
                raise misuse("a check that is a step answers ready(value) or not_yet(seen) itself: no condition here")
            _refuse_unknown(options, (*SCHEDULE, "returns"))
            check_hint(options.get("returns", Any), "poll", "returns")
            return named(_driven(check, args[1:], **options), "poll")
        if "returns" in options:
            raise misuse("returns is for polls of a check step: a function that polls in place returns what it returns")
        if args[1:]:
            raise misuse("poll calls a function without arguments: poll(lambda: check(order))")
        _refuse_unknown(options, (*SCHEDULE, "success_condition", "on_attempt"))
        return named(_in_place(check, **options), "poll")


poll = _Poll()

# The options that every form of a poll has.
SCHEDULE = ("interval", "max_attempts", "timeout")


def _refuse_unknown(options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Checks the names of options.

    # Raises
    TypeError, which is permanent, with the first unknown name and the known ones.
    """
    for name in options:
        if name not in known:
            raise misuse(f"poll does not know '{name}'; it knows {', '.join(known)}")


def _policy(interval: Duration, max_attempts: int, timeout: Duration | None) -> PollPolicy:
    if not 1 <= max_attempts <= ATTEMPTS_LIMIT:
        raise ValueError(f"a poll takes 1 to {ATTEMPTS_LIMIT} attempts, not {max_attempts}")
    return PollPolicy(ms(interval, "a poll's interval"), max_attempts, optional_ms(timeout, "a poll's timeout"))


async def _driven(
    check: AnyStep,
    args: tuple[Any, ...],
    *,
    interval: Duration = INTERVAL_MS,
    max_attempts: int = ATTEMPTS_MAX,
    timeout: Duration | None = None,
    returns: Any = Any,
) -> Any:
    policy = _policy(interval, max_attempts, timeout)
    input = check.signature.encode(args, {}, f"the input of step '{check.name}'")
    try:
        output = await current().poll(check, input, policy)
    except Failure as failure:
        raise typed(failure) from None
    return told(output, returns, f"the value of step '{check.name}'")


async def _in_place(
    check: Callable[[], Any],
    *,
    interval: Duration = INTERVAL_MS,
    max_attempts: int = ATTEMPTS_MAX,
    timeout: Duration | None = None,
    success_condition: Callable[[Any], Any] | None = None,
    on_attempt: Callable[[int, Any], Any] | None = None,
) -> Any:
    host = current()
    checks = Checks(_policy(interval, max_attempts, timeout), host.now_ms, host.sleep)
    while True:
        attempt = await checks.next()
        # What a lambda returns may be awaitable though the lambda is not async.
        result = await settled(check())
        if on_attempt is not None:
            await settled(on_attempt(attempt, result))
        if await settled((success_condition or bool)(result)):
            return result


class Checks:
    """The checks of a poll by number. The rules are the engine's, which `wit/polls.json` has cases for."""

    def __init__(self, policy: PollPolicy, now_ms: Callable[[], int], sleep: Callable[[int], Awaitable[None]]) -> None:
        self._policy = policy
        self._now_ms = now_ms
        self._sleep = sleep
        self._began_ms = now_ms()
        self._made = 0

    async def next(self) -> int:
        """The number of the next check, once it is due. The first one is due at once, whatever the timeout.

        # Raises
        PollTimeout when the checks or the time are used up.
        """
        interval_ms, timeout_ms = self._policy.interval_ms, self._policy.timeout_ms
        # A failure is permanent: the policy of the step around it must not multiply the checks.
        if self._made >= self._policy.max_attempts:
            message = f"Polling failed after {self._made} attempts (interval: {interval_ms}ms)"
            raise PollTimeout(message, kind="poll-exhausted", retryable=False)
        if self._made > 0:
            await self._sleep(max(interval_ms, INTERVAL_MS_MIN))
            spent_ms = self._now_ms() - self._began_ms
            if timeout_ms is not None and spent_ms >= timeout_ms:
                message = f"Polling timed out after {spent_ms}ms (timeout: {timeout_ms}ms)"
                raise PollTimeout(message, kind="poll-timeout", retryable=False)
        self._made += 1
        return self._made


async def settled(value: Any) -> Any:
    """The value, awaited when it can be."""
    return await value if inspect.isawaitable(value) else value


def _decorator(
    *,
    condition: Callable[[Any], Any],
    interval: SecondsDuration = 5,
    max_attempts: int = ATTEMPTS_MAX,
    timeout: SecondsDuration | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    every = from_seconds(interval, "a poll's interval")
    limit = None if timeout is None else from_seconds(timeout, "a poll's timeout")

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        refuse_step(function)

        @functools.wraps(function)
        async def polled(*args: P.args, **kwargs: P.kwargs) -> R:
            result: R = await _in_place(
                lambda: function(*args, **kwargs),
                interval=every,
                max_attempts=max_attempts,
                timeout=limit,
                success_condition=condition,
            )
            return result

        return polled

    return decorate
