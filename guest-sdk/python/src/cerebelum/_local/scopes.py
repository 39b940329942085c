"""Runs the code of one scope: in a context of its own, with a record of its tasks and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .. import _host
from .._tasks import places_of
from ..errors import Failure, cancellation_failure, failure_of
from .limits import recorded

if TYPE_CHECKING:
    from .host import LocalHost

T = TypeVar("T")
# From the JSON text of the input to that of the output.
Body: TypeAlias = "Callable[[str], Coroutine[Any, Any, str]]"


class Continued(BaseException):
    """A run has ended and the next one begins, with this input."""

    def __init__(self, input: str) -> None:
        super().__init__(input)
        self.input = input


def spawn(coroutine: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
    """Runs a coroutine that belongs to no scope."""
    task = contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)
    if name is not None:
        task.set_name(name)
    task.add_done_callback(_look)
    return task


def _look(task: asyncio.Task[Any]) -> None:
    # Retrieves the exception, so that asyncio does not report one that was not awaited.
    if not task.cancelled():
        task.exception()


class Scope:
    """The tasks of one scope, and how it ends."""

    def __init__(self, timeout_ms: int | None) -> None:
        self._numbers = itertools.count()
        # In the order of their creation, for an end that is the same each time.
        self._tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()
        self._timeout_ms = timeout_ms
        self._timer: asyncio.TimerHandle | None = None
        self.main: asyncio.Task[str] | None = None
        # How the scope ends; the first decision counts.
        self.verdict: asyncio.Future[str] | None = None
        # While leftover tasks end.
        self.rest: asyncio.Future[None] | None = None
        self.closed = False
        # Where the tasks of a guest waited before it left memory.
        self.last_places = ""

    def add(self, task: asyncio.Task[Any]) -> None:
        """Notes a task that this scope created."""
        self._tasks[task] = next(self._numbers)

    def running(self) -> list[asyncio.Task[Any]]:
        """Its tasks that have not ended, in the order of their creation."""
        return sorted((task for task in self._tasks if not task.done()), key=lambda task: self._tasks[task])

    def places(self) -> str:
        """Where its tasks wait, in the form of a traceback."""
        return self.last_places or places_of(self.running())

    def decide(self, error: BaseException) -> bool:
        """Ends the scope with this error. Returns False when it had ended before."""
        if self.verdict is None or self.verdict.done():
            return False
        self.verdict.set_exception(error)
        return True

    def begin_stretch(self) -> None:
        """Code runs again: the timeout counts from now on."""
        self.end_stretch()
        if self._timeout_ms is not None and not self.closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_ms / 1_000, self._overrun, context=contextvars.Context())

    def end_stretch(self) -> None:
        """The scope waits for a durable call: the timeout is suspended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overrun(self) -> None:
        message = f"the step took longer than {self._timeout_ms} ms between two waits"
        self.decide(Failure(message, kind="timeout"))

    def close(self) -> None:
        """Cancels everything that still runs, without waiting, and refuses durable calls from now on."""
        self.closed = True
        self.end_stretch()
        for task in self.running():
            task.cancel()


async def run_scope(host: LocalHost, body: Body, input: str) -> str:
    """Runs a body as the scope of this host; leftover tasks are cancelled before this returns.

    # Raises
    Failure when it fails, Continued when its run goes on as a new one.
    """
    scope, loop = host.scope, asyncio.get_running_loop()
    scope.verdict = loop.create_future()
    with noting_tasks(loop), host.world.alive(host):
        try:
            scope.main = start(loop, host, body, input)
            scope.begin_stretch()
            output = await scope.verdict
        finally:
            scope.end_stretch()
            try:
                if scope.main is not None and scope.main.done() and not scope.closed:
                    await end(scope)
            finally:
                scope.close()
                host.world.dying.update(scope.running())
    return output


def start(loop: asyncio.AbstractEventLoop, host: LocalHost, body: Body, input: str) -> asyncio.Task[str]:
    """Starts a scope's own code, in an empty context: only the input reaches it."""
    context = contextvars.Context()
    context.run(_host.enter, host)
    main = context.run(loop.create_task, guarded(body(input)))
    main.set_name(host.name)
    main.add_done_callback(lambda task: judge(host, task))
    return main


async def guarded(coroutine: Coroutine[Any, Any, str]) -> str:
    """Runs code; an exit in it ends the scope only, not the process."""
    try:
        return await coroutine
    except SystemExit as error:
        raise recorded(failure_of(error)) from error


def judge(host: LocalHost, main: asyncio.Task[str]) -> None:
    """Ends the scope as its own code ended."""
    scope = host.scope
    if main.cancelled():
        scope.decide(cancellation_failure(host.execution.is_cancelling))
    elif error := main.exception():
        scope.decide(error if isinstance(error, Continued) else recorded(error))
    elif scope.verdict is not None and not scope.verdict.done():
        scope.verdict.set_result(main.result())


async def end(scope: Scope) -> None:
    """Cancels leftover tasks and waits for them, since clean-up may make durable calls."""
    rest = [task for task in scope.running() if task is not scope.main]
    if not rest:
        return
    scope.rest = done = asyncio.get_running_loop().create_future()
    for task in rest:
        task.cancel()
    waiting = spawn(_all(rest))
    waiting.add_done_callback(lambda _: release(done))
    await done


def release(waiting: asyncio.Future[None]) -> None:
    """Resolves the future, unless it is done."""
    if not waiting.done():
        waiting.set_result(None)


async def _all(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


# The number of scopes on a loop, and the task factory that it had before.
_noted: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, Any]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def noting_tasks(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Records every new task of a scope while the context is active."""
    count, before = _noted.get(loop, (0, None))
    if count == 0:
        before = loop.get_task_factory()
        loop.set_task_factory(_factory(before))
    _noted[loop] = (count + 1, before)
    try:
        yield
    finally:
        count, before = _noted[loop]
        _noted[loop] = (count - 1, before)
        if count == 1:
            loop.set_task_factory(before)


def _factory(before: Any) -> Any:
    def create(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = (
            asyncio.Task(coroutine, loop=loop, **options) if before is None else before(loop, coroutine, **options)
        )
        context = options.get("context")
        host: Any = _host._scope.get(None) if context is None else context.get(_host._scope)
        scope = getattr(host, "scope", None)
        if isinstance(scope, Scope):
            scope.add(task)
        return task

    return create
