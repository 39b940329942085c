"""Trying again, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from ._host import current
from ._tasks import named
from .durations import Duration, ms
from .errors import make_permanent
from .polls import settled

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
                `on_error`, the exceptions worth another attempt, all when left out; `on_attempt`, called before each
                attempt with its number and the last exception.

        # Raises
        The exception of the last attempt, made permanent: the retry policy of the surrounding step does not repeat it.
        """
        if isinstance(fn, int):
            from .timeline.actions import RetryAction

            return RetryAction.of(fn, *args, **options)
        if not callable(fn):
            raise TypeError(f"retry takes a function to call, not {type(fn).__name__}")
        return named(_attempts(fn, args, options), "retry")


retry = _Retry()


async def _attempts(fn: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    max_attempts: int = options.pop("max_attempts", 3)
    delay: Duration = options.pop("delay", 1_000)
    backoff: float = options.pop("backoff", 1.0)
    on_error = options.pop("on_error", None) or Exception
    on_attempt = options.pop("on_attempt", None)
    if max_attempts < 1:
        raise ValueError(f"retry needs at least 1 attempt, not {max_attempts}")
    wait_ms: float = ms(delay, "a retry's delay")
    last: BaseException | None = None
    for attempt in range(1, max_attempts + 1):
        if on_attempt is not None:
            await settled(on_attempt(attempt, last))
        try:
            return await settled(fn(*args, **options))
        except on_error as error:
            if attempt == max_attempts:
                # The policy of the surrounding step must not multiply the attempts.
                make_permanent(error)
                raise
            last = error
        await current().sleep(ms(wait_ms))
        wait_ms *= backoff
    raise AssertionError("the last attempt returns or raises")
