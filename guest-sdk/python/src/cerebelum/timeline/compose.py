"""Steps in an order: one after the other with `>>`, at the same time in a list."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from ..steps import AnyStep, Step


class ParallelStepGroup:
    """Branches that run at the same time; a list inside a timeline is one: `a >> [b, c >> d] >> e`."""

    def __init__(self, members: Iterable[Composable]) -> None:
        self.branches = tuple(StepComposition([member]) for member in members)
        if not self.branches:
            raise ValueError("a parallel group needs at least one step: [] is empty")

    def __rshift__(self, following: object) -> StepComposition:
        """All of these, then that."""
        return sequence(self, following)

    def __rrshift__(self, preceding: object) -> StepComposition:
        """That, then all of these."""
        return sequence(preceding, self)

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self.branches))}]"

    def steps(self) -> Iterator[AnyStep]:
        """All steps, in the order in which they are written."""
        for branch in self.branches:
            yield from branch.steps()

    def has_entry(self, name: str) -> bool:
        """Whether a branch begins with this step, so that a jump to it starts the whole group."""
        return any(branch.entry_of(name) == 0 for branch in self.branches)


Item: TypeAlias = "AnyStep | ParallelStepGroup"


class StepComposition:
    """Steps and groups that run one after the other: `a >> b`."""

    def __init__(self, parts: Iterable[Composable]) -> None:
        self.items: tuple[Item, ...] = tuple(item for part in parts for item in _items_of(part))
        if not self.items:
            raise ValueError("a composition needs at least one step")

    def __rshift__(self, following: object) -> StepComposition:
        """This, then that."""
        return sequence(self, following)

    def __rrshift__(self, preceding: object) -> StepComposition:
        """That, then this."""
        return sequence(preceding, self)

    def __repr__(self) -> str:
        return " >> ".join(item.name if isinstance(item, Step) else repr(item) for item in self.items)

    def steps(self) -> Iterator[AnyStep]:
        """All steps, in the order in which they are written."""
        for item in self.items:
            yield from steps_of(item)

    def entry_of(self, name: str) -> int | None:
        """At which item a jump to this step goes on; None when it stands elsewhere, or in the middle of a branch."""
        for at, item in enumerate(self.items):
            if item.name == name if isinstance(item, Step) else item.has_entry(name):
                return at
        return None


Composable: TypeAlias = "AnyStep | StepComposition | ParallelStepGroup | Sequence[Any]"


def steps_of(item: Item) -> Iterator[AnyStep]:
    """The steps of an item of a composition."""
    if isinstance(item, Step):
        yield item
    else:
        yield from item.steps()


def sequence(left: object, right: object) -> StepComposition:
    """What `left >> right` makes.

    # Raises
    TypeError when one is no step, ValueError when one is an empty list.
    """
    return StepComposition([left, right])  # type: ignore[list-item]


def composition_of(part: object) -> StepComposition:
    """A step, a composition or a list, which is a parallel group, as a composition.

    # Raises
    TypeError when it is none of them, ValueError when it is an empty list.
    """
    return part if isinstance(part, StepComposition) else StepComposition([part])  # type: ignore[list-item]


def is_composable(part: object) -> bool:
    """Whether it looks like steps, right or not."""
    return isinstance(part, (Step, StepComposition, ParallelStepGroup, list, tuple))


def _items_of(part: object) -> tuple[Item, ...]:
    if isinstance(part, (Step, ParallelStepGroup)):
        return (part,)
    if isinstance(part, StepComposition):
        return part.items
    if isinstance(part, (list, tuple)):
        return (ParallelStepGroup(part),)
    raise _refusal(part)


def _refusal(part: object) -> TypeError:
    if inspect.iscoroutine(part):
        # It will never be awaited, and Python would complain about that as well.
        part.close()
        name = part.__name__
        return TypeError(f"a timeline names steps and does not call them: write {name}, not {name}(…)")
    if inspect.isfunction(part):
        return TypeError(f"'{part.__name__}' is a function and not a step: put @step above it")
    return TypeError(f"a timeline is made of steps, not of {part!r}")
