"""An event loop on a virtual clock: waiting takes no real time, and all waits see the same time pass."""

from __future__ import annotations

import asyncio
import contextvars
import selectors
import sys
import threading
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from .._tasks import places_of
from ..errors import Failure
from .order import Numbers

T = TypeVar("T")

# The default start of a clock.
EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
# How long an open socket, or a thread that the loop did not start, is given before the clock jumps.
PATIENCE_S = 1.0
# A program that still runs then never ends.
YEARS_MAX = 100
END_S = YEARS_MAX * 366 * 86_400.0
# How often a program may come back to the loop without a durable call and without time passing: some seconds of CPU
# time. An engine counts that time.
SPINS_MAX = 100_000
SPINNING = "the guest used up its CPU time: it comes back again and again without waiting for anything that can happen"


class _Selector(selectors.DefaultSelector):
    """A selector that leaves waiting to the loop."""

    loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Events of real files, or none after a jump in time."""
        events = super().select(0)
        if self.loop is None:
            return events
        if events or timeout == 0:
            self.loop.spin()
            return events
        if self.loop.has_work_in_threads:
            return super().select(None)
        # Checked before polling: a thread that ended meanwhile has delivered its result.
        patience = PATIENCE_S if self.loop.may_be_told_something else 0
        events = super().select(patience)
        if not events:
            self.loop.jump()
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """When nothing can move, time jumps to the next deadline.

    `asyncio.sleep`, `wait_for`, `timeout` and all else that counts this loop's time take no time at all. Threads of
    `asyncio.to_thread` are waited for; what waits for a socket has a second of real time before the clock jumps.
    """

    def __init__(self, start: datetime | None = None) -> None:
        selector = _Selector()
        self._now_s = 0.0
        begin = start or EPOCH
        self._epoch_ms = (begin - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)
        self._in_threads = 0
        self._threads_before = set(threading.enumerate())
        # Called when nothing can move any more, or time is up; returns whether something moves now.
        self.on_standstill: Callable[[str], bool] = lambda _: False
        # Called when code spins without progress; returns whether that is over now.
        self.on_spin: Callable[[], bool] = lambda: False
        self._spins = 0
        super().__init__(selector)
        # So that a test with tasks in a set repeats.
        self.set_task_factory(Numbers().task)
        # Far from zero, doubles cannot tell times apart that are closer than this.
        self._clock_resolution = 1e-6
        selector.loop = self

    def time(self) -> float:
        """Seconds since this loop's beginning."""
        return self._now_s

    def now_ms(self) -> int:
        """Milliseconds since 1970, by this clock."""
        return self._epoch_ms + round(self._now_s * 1_000)

    def jump(self) -> None:
        """Nothing can move: goes to the next deadline.

        # Raises
        RuntimeError when there is none.
        """
        self.moved()
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        why = "nothing can move any more: what is awaited will never happen"
        if scheduled:
            when = scheduled[0].when()
            if when <= END_S:
                self._now_s = max(self._now_s, when)
                return
            why = f"still running after {YEARS_MAX} years"
        if not self.on_standstill(why):
            raise RuntimeError(why)

    def moved(self) -> None:
        """Something got somewhere: time passed, or a durable call was made."""
        self._spins = 0

    def spin(self) -> None:
        """A round in which time stood still.

        # Raises
        Failure of kind `cpu-limit` when there are too many.
        """
        self._spins += 1
        if self._spins > SPINS_MAX and not self.has_work_in_threads:
            self._spins = 0
            if not self.on_spin():
                failure = spinning(asyncio.all_tasks(self))
                if sys.version_info >= (3, 11):
                    failure.add_note(failure.details["traceback"])
                raise failure

    def ready_contexts(self) -> list[contextvars.Context]:
        """The contexts of what wants to run."""
        ready: list[Any] = list(self._ready)  # type: ignore[attr-defined]
        return [handle._context for handle in ready if not handle.cancelled()]

    @property
    def has_work_in_threads(self) -> bool:
        """Whether a function runs in a thread for a task of this loop."""
        return self._in_threads > 0

    @property
    def may_be_told_something(self) -> bool:
        """Whether an event may arrive from outside: a socket is open, or a thread was started."""
        selector: selectors.BaseSelector = self._selector  # type: ignore[attr-defined]
        executor: Any = self._default_executor  # type: ignore[attr-defined]
        own = set() if executor is None else set(executor._threads)
        # One file is this loop's own, which wakes it up.
        return len(selector.get_map()) > 1 or bool(set(threading.enumerate()) - self._threads_before - own)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Runs a function in a thread; the clock stands still meanwhile."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._back_from_thread)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Waits in a thread of its own for the others to end."""
        self._in_threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._in_threads -= 1

    def _back_from_thread(self, _: asyncio.Future[Any]) -> None:
        self._in_threads -= 1


def spinning(tasks: Collection[asyncio.Task[Any]]) -> Failure:
    """The failure that ends spinning code."""
    in_order = sorted(tasks, key=lambda task: task.get_name())
    details = {"traceback": places_of(in_order)}
    return Failure(SPINNING, kind="cpu-limit", details=details, retryable=False)


def run_virtually(coroutine: Coroutine[Any, Any, T], *, start: datetime | None = None) -> T:
    """What `asyncio.run` does, on a clock that jumps.

    # Raises
    What the coroutine raises; Failure of kind `cpu-limit` when it keeps time from passing.
    """
    return run_on(VirtualLoop(start), coroutine)


def run_on(loop: VirtualLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end and closes the loop."""
    try:
        return loop.run_until_complete(coroutine)
    finally:
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        loop.on_standstill = lambda _: False
        try:
            if rest:
                loop.run_until_complete(asyncio.wait(rest, timeout=1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
