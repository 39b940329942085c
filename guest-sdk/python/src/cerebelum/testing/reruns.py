"""Runs a workflow as an engine short of memory does: dropped at every wait, rerun when an outcome arrives.

Its calls are performed outside of it, once. A rerun receives the recorded outcomes one by one, each when nothing in the
workflow can move.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._local.scopes import Body, Scope, spawn
from .guest import Guest
from .journal import Journal, Outcome

if TYPE_CHECKING:
    from .._local.host import LocalHost


async def rerun_scope(host: LocalHost, body: Body, input: str) -> str:
    """Runs a body as the scope of this host, in one guest after the other.

    # Raises
    Failure when it fails or diverges, Continued when its run goes on as a new one.
    """
    scope = host.scope
    scope.verdict = asyncio.get_running_loop().create_future()
    reruns = Reruns(host, body, input)
    living = spawn(reruns.live())
    living.add_done_callback(lambda task: conclude(scope, Outcome.of(task)))
    with host.world.alive(host):
        try:
            return await scope.verdict
        finally:
            scope.close()
            living.cancel()
            reruns.end()


class Reruns:
    """The guests of one run of a workflow, one after the other, and the calls that outlive them."""

    def __init__(self, host: LocalHost, body: Body, input: str) -> None:
        self._host = host
        self._body = body
        self._input = input
        self._journal = Journal()
        self._began_ms = host.now_ms()
        self._calls: dict[int, asyncio.Task[Any]] = {}
        self._outcomes: asyncio.Queue[tuple[int, Outcome]] = asyncio.Queue()

    async def live(self) -> str:
        """The output.

        # Raises
        What the workflow ends with.
        """
        journal = self._journal
        while True:
            guest = Guest(self._host, journal, self._began_ms)
            await self._turn(guest)
            journal.dropped.update(guest.gave_up)
            for ordinal in guest.gave_up:
                if ordinal in self._calls:
                    self._calls[ordinal].cancel()
            for ordinal, perform in guest.asked.items():
                if ordinal not in journal.dropped and guest.end is None:
                    self._calls[ordinal] = call = spawn(perform())
                    call.add_done_callback(self._answers(ordinal))
            if guest.end is not None:
                if guest.end.error is not None:
                    raise guest.end.error
                return str(guest.end.value)
            ordinal, outcome = await self._next()
            journal.delivered.append((ordinal, outcome, self._host.now_ms()))

    async def _next(self) -> tuple[int, Outcome]:
        while True:
            ordinal, outcome = await self._outcomes.get()
            if ordinal not in self._journal.dropped:
                return ordinal, outcome

    async def _turn(self, guest: Guest) -> None:
        """A guest, from its beginning to where it waits or ends."""
        # Not from within a task: a thread has one at a time, and the guest brings its own.
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def run() -> None:
            try:
                guest.repeat(self._body, self._input)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        loop.call_soon(run)
        await done

    def _answers(self, ordinal: int) -> Any:
        return lambda call: self._outcomes.put_nowait((ordinal, Outcome.of(call)))

    def end(self) -> None:
        """Cancels what is still open."""
        for call in self._calls.values():
            call.cancel()


def conclude(scope: Scope, end: Outcome) -> None:
    """Ends the scope, unless it has ended before."""
    if scope.verdict is None or scope.verdict.done():
        return
    if end.error is None:
        scope.verdict.set_result(end.value)
    elif isinstance(end.error, asyncio.CancelledError):
        scope.verdict.cancel()
    else:
        scope.verdict.set_exception(end.error)
