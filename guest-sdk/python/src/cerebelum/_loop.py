"""The event loop of a component: asyncio on top of durable calls, with timers, cancellation and an orderly end.

It replaces the loop that componentize-py brings, which has no timers and traps where a call is cancelled. Only there
inside a component.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import math
import sys
import time
import traceback
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn

import componentize_py_async_support as support
import componentize_py_runtime as runtime
from componentize_py_types import Err, Ok
from wit_world.imports import durable

from . import _tasks, _unsupported
from .errors import Failure, cancellation_failure

DEADLOCK = "the guest waits, but for no call that is open: nothing can wake it"
SPINNING = "the event loop came round {0:,} times, and time only passes while it rests: await a timer or an event"
# Turns without progress before it logs a warning. A workflow's second of CPU time allows for more of them.
ROUNDS_NOTED = 50_000
# The engine's longest wait, a year; a later deadline is armed again.
SLEEP_MS_MAX = 365 * 24 * 3_600 * 1_000


class Loop(support._Loop):  # type: ignore[misc]
    """One task of the component model, one loop. It comes to rest when nothing in it can move."""

    def __init__(self) -> None:
        super().__init__()
        self.running = True
        self.timers = Timers(self)
        self._state: Any = None
        # The number of turns since the last outcome.
        self._rounds = 0
        self._created = 0
        # Tasks in the order of their creation, for an end that is the same on a rerun.
        self._order: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()
        # The guest's task, and the one that waits for its end.
        self.entry: asyncio.Task[Any] | None = None
        self.keeper: asyncio.Task[Any] | None = None
        self.verdict: asyncio.Future[Any] | None = None
        self.context: contextvars.Context | None = None
        self.is_cancelled = False
        # Tasks that await calls of the cancelled execution, until asyncio's own rules reach them.
        self._cut_off: list[asyncio.Future[Any]] = []

    def poll(self, state: Any) -> None:
        """Runs everything that can run; then arms the timer, or detects a deadlock."""
        self._state = state
        self._rounds = 0
        while True:
            while state.handles:
                handles, state.handles = state.handles, []
                self._note_round()
                for handle in handles:
                    if not handle._cancelled:
                        self._run(handle)
                # The traceback of a task's exception refers to this frame, which must not refer back to the task.
                del handle, handles
            if self.exception is not None:
                raise self.exception
            if not self.timers.before_rest() and not self._notice_deadlock(state):
                return

    def _run(self, handle: asyncio.Handle) -> None:
        # They are set as the task's exception as well, and raised where it is awaited.
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            handle._run()
        # See `poll`.
        del handle

    def _note_round(self) -> None:
        """Logs once where a spinning program stands: the engine ends it, but does not know the line."""
        self._rounds += 1
        if self._rounds == ROUNDS_NOTED and self.entry is not None:
            print(SPINNING.format(ROUNDS_NOTED), _tasks.places_of(self.leftovers()), sep="\n", file=sys.stderr)

    def _notice_deadlock(self, state: Any) -> bool:
        if self.entry is None or self.entry.done() or state.futures:
            return False
        if self._cut_off:
            for waiting in self._cut_off:
                waiting.cancel()
            self._cut_off = []
            return True
        if self.verdict is not None and not self.verdict.done():
            details = {"traceback": _tasks.places_of(self.leftovers())}
            self.verdict.set_exception(Failure(DEADLOCK, kind="deadlock", details=details, retryable=False))
            return True
        return False

    def cancel_execution(self) -> None:
        """Cancels the main task with the execution, once, as Ctrl-C does in `asyncio.run`."""
        if not self.is_cancelled and self.entry is not None:
            self.is_cancelled = True
            self.entry.cancel()

    async def cut_off(self, message: str) -> NoReturn:
        """Ends the wait for a call that the engine cancelled with the execution.

        The main task is cancelled at once. Other tasks are cancelled through it: by their group, their gather, or its
        end. Cancelling them here as well would interrupt their clean-up with a second cancellation.
        """
        if asyncio.current_task() is self.entry:
            self.is_cancelled = True
            raise asyncio.CancelledError(message)
        self.cancel_execution()
        waiting = self.create_future()
        self._cut_off.append(waiting)
        await waiting
        raise asyncio.CancelledError(message)

    def time(self) -> float:
        """Seconds on the scope's clock: the time of the last outcome."""
        return time.monotonic()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Runs a callback before the loop comes to rest."""
        context = context or contextvars.copy_context()
        state = context.get(support._future_state) or self._state
        handle = asyncio.Handle(callback, args, self, context)
        state.handles.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def ready(self, timer: asyncio.TimerHandle) -> None:
        """Runs a timer that is due before the loop comes to rest."""
        self._state.handles.append(timer)

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Runs a callback after `delay` seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Runs a callback at a time of this loop."""
        timer = asyncio.TimerHandle(when, callback, args, self, context or contextvars.copy_context())
        self.timers.add(timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they come first."""

    def create_task(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        """Runs a coroutine concurrently with the others."""
        options.pop("eager_start", None)
        task = asyncio.Task(coroutine, loop=self, **options)
        self._created += 1
        self._order[task] = self._created
        return task

    def leftovers(self) -> list[asyncio.Task[Any]]:
        """The guest's tasks that have not ended, in the order of their creation."""
        ours = (self.timers.task, self.keeper)
        return sorted((task for task in asyncio.all_tasks() if task not in ours), key=lambda t: self._order.get(t, 0))

    def tell_unawaited(self) -> None:
        """Logs exceptions that were never retrieved, while the scope can still log."""
        for task in sorted(self._order, key=lambda task: self._order.get(task, 0)):
            if task.done() and task._log_traceback:
                context = {"message": "Task exception was never retrieved", "exception": task.exception(), "task": task}
                self.call_exception_handler(context)

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Runs a function here and now: there are no threads."""
        future = self.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future  # type: ignore[no-any-return]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that was never awaited goes to the log; it ends nothing."""
        task = context.get("task") or context.get("future")
        print(f"{context.get('message')}{f': {task!r}' if task else ''}", file=sys.stderr)
        if error := context.get("exception"):
            traceback.print_exception(error, file=sys.stderr)

    default_exception_handler = call_exception_handler

    def get_task_factory(self) -> None:
        """There is none."""

    def get_exception_handler(self) -> None:
        """There is none."""

    def set_exception_handler(self, handler: Any) -> None:
        """Ignored: exceptions that are never awaited go to the log."""

    def set_debug(self, enabled: bool) -> None:
        """Ignored."""


class Timers:
    """All deadlines of a loop; the engine knows only of the earliest one, as a single durable sleep."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._added = 0
        # Waits for the open sleep, which ends at `_armed`.
        self.task: asyncio.Task[None] | None = None
        self._armed = math.inf

    def add(self, timer: asyncio.TimerHandle) -> None:
        """Takes a deadline in."""
        self._added += 1
        timer._scheduled = True  # type: ignore[attr-defined]
        heapq.heappush(self._heap, (timer.when(), self._added, timer))

    def before_rest(self) -> bool:
        """Runs due callbacks, and opens a sleep for the earliest deadline. Returns whether something can move now."""
        heap = self._heap
        while heap and heap[0][2].cancelled():
            heapq.heappop(heap)
        if not heap:
            return self._disarm()
        now, moved = self._loop.time(), False
        # The clock counts whole milliseconds; a deadline within the current one is due.
        while heap and heap[0][0] <= now + 5e-7:
            timer = heapq.heappop(heap)[2]
            if not timer.cancelled():
                self._loop.ready(timer)
                moved = True
        if moved or not heap:
            return moved or self.before_rest()
        if self._armed <= heap[0][0]:
            return False
        self._disarm()
        self._armed = heap[0][0]
        # Doubles are exact to less than this; without it a whole number of milliseconds could be rounded up.
        left_ms = math.ceil(round((self._armed - now) * 1_000, 3))
        # Between callbacks there is no context that knows the component-model task.
        self.task = self._loop.create_task(self._sleep(left_ms), name="timer", context=self._loop.context)
        return True

    async def _sleep(self, left_ms: int) -> None:
        try:
            await durable.sleep(min(left_ms, SLEEP_MS_MAX))
        except Err as error:
            self._told_no(error.value)
        # Cancelled ones do not come here: they were replaced already.
        self.task, self._armed = None, math.inf

    def _told_no(self, failure: Any) -> None:
        """Deadlines outlive the cancellation of an execution: the next rest arms them again."""
        if failure.kind == "cancelled":
            self._loop.cancel_execution()
            return
        verdict = self._loop.verdict
        if verdict is not None and not verdict.done():
            verdict.set_exception(Failure(failure.message, kind=failure.kind, retryable=False))

    def _disarm(self) -> bool:
        if self.task is None:
            return False
        self.task.cancel()
        self.task, self._armed = None, math.inf
        return True


class Open(dict):  # type: ignore[type-arg]
    """The open calls of a component-model task. Each keeps it alive, so that it never ends with a call open: a trap."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self._state = state

    def __setitem__(self, waitable: int, waiting: Any) -> None:
        if waitable not in self:
            self._state.pending_count += 1
        super().__setitem__(waitable, waiting)

    def pop(self, waitable: int) -> Any:  # type: ignore[override]
        """Forgets a call that is answered."""
        self._state.pending_count -= 1
        return super().pop(waitable)


class Abandoned:
    """Takes the place of the future of a call that is no longer awaited."""

    def __init__(self, promise: int) -> None:
        self._promise = promise

    def set_result(self, event: int) -> None:
        """Frees the answer."""
        with contextlib.suppress(Err):
            runtime.promise_get_result(event, self._promise)


async def await_result(result: Any) -> Any:
    """Waits for a call of an import; generated code calls this. Cancelling it cancels the call."""
    if isinstance(result, Ok):
        return result.value
    call = durable.last_call()
    state = support._future_state.get()
    if not isinstance(state.futures, Open):
        state.futures = Open(state)
    waitable, promise = result.value
    future = state.futures[waitable] = support._loop.create_future()
    if state.waitable_set is None:
        state.waitable_set = runtime.waitable_set_new()
    runtime.waitable_join(waitable, state.waitable_set)
    try:
        event = await future
    except BaseException:  # CancelledError, GeneratorExit
        abandoned = Abandoned(promise)
        if state.futures.get(waitable) is future:
            state.futures[waitable] = abandoned
            durable.cancel(call)
        else:  # Its answer came in the same turn.
            abandoned.set_result(future.result())
        raise
    return runtime.promise_get_result(event, promise)


async def keep(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a guest to its end; its leftover tasks are cancelled first, as `asyncio.run` does.

    # Raises
    The guest's exception, and Failure of kind `deadlock`.
    """
    loop: Loop = support._loop
    loop.context = contextvars.copy_context()
    loop.keeper = asyncio.current_task()
    try:
        return await _watch(loop, coroutine, "main")
    finally:
        rest = loop.leftovers()
        for task in rest:
            task.cancel()
        if rest:
            # A leftover task in a deadlock must not keep the guest from ending.
            with contextlib.suppress(Failure):
                await _watch(loop, asyncio.wait(rest), "end")
        loop.tell_unawaited()


async def _watch(loop: Loop, coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
    loop.verdict = verdict = loop.create_future()
    loop.entry = loop.create_task(coroutine, name=name)
    loop.entry.add_done_callback(lambda task: _judge(verdict, task))
    return await verdict


def _judge(verdict: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
    if verdict.done():
        return
    if task.cancelled():
        verdict.set_exception(cancellation_failure(support._loop.is_cancelled))
    elif error := task.exception():
        verdict.set_exception(error)
    else:
        verdict.set_result(task.result())


def install() -> None:
    """Replaces the loop of the runtime by this one."""
    _unsupported.replace(Loop, _unsupported.LOOP_SOCKETS, _unsupported.SOCKETS)
    _unsupported.replace(Loop, _unsupported.LOOP_PROCESSES, _unsupported.PROCESSES)
    _unsupported.replace(Loop, _unsupported.LOOP_RUNS, _unsupported.LOOPS)
    loop = support._loop = Loop()
    support.await_result = await_result
    asyncio.set_event_loop(loop)
    asyncio.events._set_running_loop(loop)

    def close(generator: AsyncGenerator[Any, Any]) -> None:
        loop.create_task(generator.aclose())

    sys.set_asyncgen_hooks(finalizer=close)
