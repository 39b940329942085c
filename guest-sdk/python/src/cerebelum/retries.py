"""Trying again, in place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, overload

from ._host import current
from ._tasks import named
from .durations import MS_MAX, Duration, ms, optional_ms
from .errors import is_permanent, make_permanent, misuse
from .polls import settled
from .steps import Step
from .workflows import Workflow

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .timeline.actions import RetryAction


class _Retry:
    """`await retry(connect, ip, max_attempts=10)`; in `wf.diverge`, `retry(3, delay=1000)`."""

    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        *args: Any,
        max_attempts: int = 3,
        delay: Duration = 1_000,
        max_delay: Duration | None = None,
        backoff: float = 1.0,
        on_error: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        on_attempt: Callable[[int, BaseException | None], Any] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def __call__(self, fn: int, /, delay: Duration = 0, backoff: float = 1.0) -> RetryAction: ...

    def __call__(self, fn: Any, *args: Any, **options: Any) -> Any:
        """Calls a function until it succeeds; attempts and waits are durable.

        Args:
            fn: the function, sync or async, called with `args` and the remaining keywords. A number instead makes it
                an action of `wf.diverge`.
            args: its arguments.
            options: `max_attempts`, 3 when left out; `delay` before the second attempt, a timedelta, text such as
                `"30s"`, or a number of milliseconds; `backoff`, the factor from each further delay to the next;
                `max_delay`, the longest delay, unlimited when left out; `on_error`, the exceptions worth another
                attempt, all when left out; `on_attempt`, called before each attempt with its number and the last
                exception.

        # Raises
        The exception of the last attempt, made permanent: the retry policy of the surrounding step does not repeat it.
        A permanent one at once, whatever `on_error` says: a Failure with `retryable=False`, such as the HttpError of a
        404. TypeError, before the first attempt, when the function does not take these arguments.
        """
        if isinstance(fn, int):
            from .timeline.actions import RetryAction

            return RetryAction.of(fn, *args, **options)
        if not callable(fn):
            raise TypeError(f"retry takes a function to call, not {type(fn).__name__}")
        own = {name: options.pop(name) for name in OPTIONS if name in options}
        _check_call(fn, args, options)
        return named(_attempts(fn, args, options, **own), "retry")


retry = _Retry()

OPTIONS = ("max_attempts", "delay", "max_delay", "backoff", "on_error", "on_attempt")


def _check_call(fn: Callable[..., Any], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Checks that a function takes these arguments, as far as its signature is known.

    # Raises
    TypeError, which is permanent, when it does not: a misspelt option, most likely.
    """
    # What a decorator wraps may take other arguments than the decorated function; a step and a workflow take the same.
    is_same = isinstance(fn, Step) or (isinstance(fn, Workflow) and not fn.is_timeline)
    try:
        signature = inspect.signature(fn, follow_wrapped=is_same)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        name = getattr(fn, "__name__", type(fn).__name__)
        raise misuse(f"retry cannot call {name}: {error}; retry's own options are {', '.join(OPTIONS)}") from None


async def _attempts(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
    *,
    max_attempts: int = 3,
    delay: Duration = 1_000,
    max_delay: Duration | None = None,
    backoff: float = 1.0,
    on_error: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    on_attempt: Callable[[int, BaseException | None], Any] | None = None,
) -> Any:
    if max_attempts < 1:
        raise ValueError(f"retry needs at least 1 attempt, not {max_attempts}")
    wait_ms: float = ms(delay, "a retry's delay")
    given_ms = optional_ms(max_delay, "a retry's longest delay")
    longest_ms = MS_MAX if given_ms is None else given_ms
    worth_another = on_error or Exception
    last: BaseException | None = None
    for attempt in range(1, max_attempts + 1):
        if on_attempt is not None:
            await settled(on_attempt(attempt, last))
        try:
            return await settled(fn(*args, **keywords))
        except worth_another as error:
            if is_permanent(error):
                raise
            if attempt == max_attempts:
                # The policy of the surrounding step must not multiply the attempts.
                make_permanent(error)
                raise
            last = error
        await current().sleep(ms(min(wait_ms, longest_ms)))
        wait_ms *= backoff
    raise AssertionError("the last attempt returns or raises")
