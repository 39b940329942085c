"""One guest: a workflow on an event loop of its own. It receives recorded outcomes one by one, and is then dropped."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import math
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from .. import _host
from .._local.limits import WAIT_MS_MAX, recorded
from .._local.scopes import Body, Continued, guarded
from .._tasks import places_of
from ..errors import Failure, cancellation_failure
from .clock import SPINS_MAX, spinning
from .journal import Journal, Outcome
from .order import Numbers
from .repeatable import repeatable
from .replay import ReplayHost

if TYPE_CHECKING:
    from .._local.host import LocalHost


class Guest:
    """A workflow in memory, from its beginning to the next wait without a recorded outcome."""

    def __init__(self, host: LocalHost, journal: Journal, began_ms: int) -> None:
        self.host = host
        self.journal = journal
        self.began_ms = self.clock_ms = began_ms
        # Its open calls.
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        # Its calls that are not in the journal, and those that it gave up.
        self.asked: dict[int, Callable[[], Coroutine[Any, Any, Any]]] = {}
        self.gave_up: list[int] = []
        self.end: Outcome | None = None
        # Whether it still repeats recorded calls.
        self.is_repeating = bool(journal.delivered)
        self.is_dropped = False
        self._main: asyncio.Task[str] | None = None
        self._known = len(journal.asked)
        self._ordinal = 0
        self._loop = GuestLoop(self)
        self._context = contextvars.Context()
        self._replay = ReplayHost(self)
        self._context.run(_host.enter, self._replay)

    def repeat(self, body: Body, input: str) -> None:
        """Runs it from the beginning through all recorded outcomes, until it ends or waits; then drops it."""
        with self._loop.running(), repeatable(self.host.execution.seed, lambda: self.clock_ms):
            entry = self._context.run(self._loop.create_task, self._entry(body, input))
            entry.add_done_callback(self._ended)
            self._loop.until_rest()
            for number, (ordinal, outcome, at_ms) in enumerate(self.journal.delivered, 1):
                if self.end is not None:
                    break
                self.is_repeating, self.clock_ms = number < len(self.journal.delivered), at_ms
                self._deliver(ordinal, outcome)
                self._loop.until_rest()
            if self._main is not None and self._main.done() and not self.waiting:
                # A leftover task in a deadlock must not keep it from ending.
                self._ended(self._main)
            self.host.scope.last_places = places_of(self._loop.unfinished())
            if self._ordinal < self._known:
                self.diverge(f"it did not ask again for {self.journal.asked[self._ordinal]}")
            self._drop()

    def new_call(self, what: str, perform: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[int, asyncio.Future[Any]]:
        """Records a call, unless it is repeated. Returns its number and its future."""
        self._loop.spins = 0
        self._ordinal = ordinal = self._ordinal + 1
        if ordinal > self._known:
            if self.is_repeating:
                self.diverge(f"it asked for {what}, which it had not asked for before")
            else:
                self.journal.asked.append(what)
                self.asked[ordinal] = perform
        elif self.journal.asked[ordinal - 1] != what:
            self.diverge(f"it asked for {what} where it had asked for {self.journal.asked[ordinal - 1]}")
        self.waiting[ordinal] = future = self._loop.create_future()
        return ordinal, future

    def diverge(self, why: str) -> None:
        """Ends it, because its rerun differs."""
        if self.end is None or self.end.error is None or getattr(self.end.error, "kind", "") != "diverged":
            message = f"the workflow does something else on a rerun: {why}"
            self.end = Outcome(error=Failure(message, kind="diverged", retryable=False))

    def call_timer(self, left_ms: int) -> Coroutine[Any, Any, None]:
        """The one durable sleep that stands for all of the loop's deadlines."""
        return self._replay.sleep(min(left_ms, WAIT_MS_MAX))

    def create_timer_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task for it, in this guest's context."""
        return self._context.run(self._loop.create_task, coroutine)

    def _deliver(self, ordinal: int, outcome: Outcome) -> None:
        future = self.waiting.pop(ordinal, None)
        if future is not None:
            outcome.deliver(future)
        elif ordinal > self._ordinal:
            self.diverge(f"it did not ask again for {self.journal.asked[ordinal - 1]}")
        else:
            self.diverge(f"it gave up {self.journal.asked[ordinal - 1]}, for which it had waited")

    async def _entry(self, body: Body, input: str) -> str:
        main: asyncio.Task[str] = self._loop.create_task(guarded(body(input)))
        main.set_name(self.host.name)
        self._main = main
        try:
            return await main
        finally:
            rest = [task for task in self._loop.others() if task is not main]
            for task in rest:
                task.cancel()
            if rest:
                await asyncio.wait(rest)

    def _ended(self, entry: asyncio.Task[str]) -> None:
        if self.end is not None or self.is_dropped:
            return
        end = Outcome.of(entry)
        if isinstance(end.error, asyncio.CancelledError):
            end = Outcome(error=cancellation_failure(is_cancelled=True))
        elif end.error is not None and not isinstance(end.error, Continued):
            end = Outcome(error=recorded(end.error))
        self.end = end

    def _drop(self) -> None:
        if self.end is not None:
            self._loop.tell_unawaited()
        self.is_dropped = True
        for task in self._loop.tasks:
            if task.done():
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            # Its `finally` blocks have no effect any more.
            with contextlib.suppress(BaseException):
                self._context.run(coroutine.close)
        self._loop.dispose()


class GuestLoop(asyncio.BaseEventLoop):
    """It comes to rest when nothing in it can move; the time is that of the last outcome."""

    def __init__(self, guest: Guest) -> None:
        # What the base class asks for while it is made.
        self._in_turn = False
        self._numbers = Numbers()
        super().__init__()
        self._guest = guest
        # In the order of their creation.
        self.tasks: list[asyncio.Task[Any]] = []
        self._timer: asyncio.Task[None] | None = None
        self._armed = math.inf
        # How much ran since the last durable call.
        self.spins = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, it is this thread's loop."""
        outer = events._get_running_loop()
        events._set_running_loop(self)
        self._in_turn = True
        try:
            yield
        finally:
            self._in_turn = False
            events._set_running_loop(outer)

    def is_running(self) -> bool:
        """Whether it is this thread's loop."""
        return self._in_turn

    def until_rest(self) -> None:
        """Runs what can run, and sees that a sleep for the earliest deadline is open."""
        ready: Any = self._ready  # type: ignore[attr-defined]
        self.spins = 0
        while self._guest.end is None:
            if ready:
                self.spins += 1
                if self.spins > SPINS_MAX:
                    self._guest.end = Outcome(error=spinning(self.unfinished()))
                handle = ready.popleft()
                if not handle.cancelled():
                    # It is raised where the task is awaited.
                    with contextlib.suppress(SystemExit):
                        handle._run()
                # The traceback of a task's exception leads to this frame: it must not lead back to the task.
                del handle
            elif not self._before_rest():
                return

    def time(self) -> float:
        """Seconds since the run began."""
        return (self._guest.clock_ms - self._guest.began_ms) / 1_000

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Runs a coroutine concurrently with the others."""
        options.pop("eager_start", None)
        task = self._numbers.task(self, coro, **options)
        self.tasks.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return self._numbers.future(self)

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended, besides the timer's and the one that runs the others."""
        return [task for task in self.tasks[1:] if not task.done() and task is not self._timer]

    def others(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended, besides the current one and the timer's."""
        own = (asyncio.current_task(), self._timer)
        return [task for task in self.tasks if not task.done() and task not in own]

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Runs a function here and now, as in a component."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Logs once what was never awaited."""
        if not self._guest.is_repeating and not self._guest.is_dropped:
            super().call_exception_handler(context)

    def tell_unawaited(self) -> None:
        """Logs exceptions that were never retrieved."""
        for task in self.tasks:
            if task.done() and getattr(task, "_log_traceback", False):
                context = {"message": "Task exception was never retrieved", "exception": task.exception(), "task": task}
                self.call_exception_handler(context)

    def dispose(self) -> None:
        """Forgets everything."""
        self._in_turn = False
        self.close()

    def _before_rest(self) -> bool:
        """Whether something can move after all."""
        heap: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while heap and heap[0].cancelled():
            heapq.heappop(heap)
        if not heap:
            return self._disarm()
        moved = False
        while heap and heap[0].when() <= self.time() + 5e-7:
            timer = heapq.heappop(heap)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                self._ready.append(timer)  # type: ignore[attr-defined]
                moved = True
        if moved or not heap or self._armed <= heap[0].when():
            return moved
        self._disarm()
        self._armed = heap[0].when()
        left_ms = math.ceil(round((self._armed - self.time()) * 1_000, 3))
        self._timer = self._guest.create_timer_task(self._sleep(left_ms))
        return True

    async def _sleep(self, left_ms: int) -> None:
        try:
            await self._guest.call_timer(left_ms)
        except asyncio.CancelledError:
            if self._timer is not asyncio.current_task():
                raise
            # The execution is cancelled, and so are its sleeps.
            self._cancel_sleepers()
        self._timer, self._armed = None, math.inf

    def _cancel_sleepers(self) -> None:
        woken: Any = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined]
        for timer in sorted(self._scheduled):  # type: ignore[attr-defined]
            if timer._callback is woken:
                timer._args[0].cancel()

    def _disarm(self) -> bool:
        timer, self._timer, self._armed = self._timer, None, math.inf
        if timer is None:
            return False
        timer.cancel()
        return True
