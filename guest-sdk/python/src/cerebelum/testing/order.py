"""Tasks and futures that sets hold in the same order on every rerun.

Python keeps them by their address. In a component an address repeats, in this process it does not; so here they have
numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any


class NumberedTask(asyncio.Task):  # type: ignore[type-arg]
    """A task whose hash is its number."""

    def __init__(self, coroutine: Any, *, number: int, **options: Any) -> None:
        # Before it is known to asyncio, which keeps it in a set.
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


# As asyncio has it in its messages and its reprs.
NumberedTask.__name__ = NumberedTask.__qualname__ = "Task"


class NumberedFuture(asyncio.Future):  # type: ignore[type-arg]
    """A future whose hash is its number."""

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Numbers:
    """Makes tasks and futures of one loop."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """A task with the next number."""
        return NumberedTask(coroutine, number=next(self._numbers), loop=loop, **options)

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        """A future with the next number."""
        return NumberedFuture(number=next(self._numbers), loop=loop)


class InOrder(set):  # type: ignore[type-arg]
    """A set that is looked through in the order in which things came: what asyncio itself puts coroutines into, which
    have no number."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__()
        self._order: dict[Any, None] = {}
        for item in items:
            self.add(item)

    def add(self, item: Any) -> None:
        """Adds one, at the end."""
        super().add(item)
        self._order[item] = None

    def __iter__(self) -> Iterator[Any]:
        return (item for item in list(self._order) if item in self)


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """While this lasts, `as_completed` and `wait` look through coroutines in the order in which they were given."""
    # Found there before the built-in one.
    names = vars(asyncio.tasks)
    before = names.get("set")
    names["set"] = InOrder
    try:
        yield
    finally:
        if before is None:
            del names["set"]
        else:
            names["set"] = before
