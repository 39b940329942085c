"""The state of a running timeline: the results so far, and the output among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class State:
    """Everything that a jump back restores. Values are decoded JSON and are never changed."""

    def __init__(self) -> None:
        # The results by the names of their steps.
        self.results: dict[str, Any] = {}
        # Steps whose failure a rule took over.
        self.failed: set[str] = set()
        # Steps that ran as the target of a diverge; they do not run again where they stand in the timeline.
        self.moved: set[str] = set()
        # The step that succeeded last, or those of a group, with their values.
        self.last: dict[str, Any] = {}
        self.is_last_group = False

    def copy(self) -> State:
        """The same, to be changed apart from this one."""
        made = State()
        made.restore(self)
        return made

    def restore(self, earlier: State) -> None:
        """Restores an earlier state."""
        self.results = dict(earlier.results)
        self.failed = set(earlier.failed)
        self.moved = set(earlier.moved)
        self.last = earlier.last
        self.is_last_group = earlier.is_last_group

    def succeed(self, name: str, value: Any) -> None:
        """A step has a result."""
        self.failed.discard(name)
        self.results[name] = value
        self.last = {name: value}
        self.is_last_group = False

    def fail(self, name: str) -> None:
        """A step has none."""
        self.results.pop(name, None)
        self.failed.add(name)

    def join(self, branches: Iterable[State]) -> None:
        """Takes in what the branches of a group did, which all began with what is known here."""
        began, last = dict(self.results), self.last
        ended: dict[str, Any] = {}
        for branch in branches:
            self.results.update(
                (name, value) for name, value in branch.results.items() if name not in began or began[name] is not value
            )
            for name in began.keys() - branch.results.keys():
                self.results.pop(name, None)
            self.failed = (self.failed | branch.failed) - self.results.keys()
            self.moved |= branch.moved
            if branch.last is not last:
                ended.update(branch.last)
        if ended:
            self.last, self.is_last_group = ended, True

    def output(self) -> Any:
        """The value of the last step that succeeded; of a group, a dictionary."""
        return self.last if self.is_last_group else next(iter(self.last.values()), None)
