"""Which step needs the result of which: a small graph, without knowledge of workflows."""

from __future__ import annotations

from collections.abc import Iterable


class DependencyGraph:
    """Steps and what they depend on; dependencies on steps that were never added are left out."""

    def __init__(self) -> None:
        self._asked: dict[str, list[str]] = {}
        self._edges: dict[str, list[str]] = {}

    def add_step(self, name: str, depends_on: Iterable[str] = ()) -> None:
        """Takes in a step; a second time adds to what it depends on."""
        asked = self._asked.setdefault(name, [])
        asked.extend(dependency for dependency in depends_on if dependency not in asked)
        self._edges = {}

    def build_edges(self) -> dict[str, list[str]]:
        """For each step the known steps that it depends on, in the order in which they were named."""
        if len(self._edges) != len(self._asked):
            self._edges = {
                name: [dependency for dependency in asked if dependency in self._asked]
                for name, asked in self._asked.items()
            }
        return self._edges

    def detect_cycles(self) -> list[list[str]]:
        """The rings of steps that wait for each other, each once, as `[a, b]` when a depends on b and b on a.

        A step that stands in several rings is named in one of them at least.
        """
        edges = self.build_edges()
        rings: list[list[str]] = []
        finished: set[str] = set()
        for start in edges:
            path: list[str] = []
            # What is still to be looked at; None says that all behind the last step of the path has been.
            ahead: list[str | None] = [start]
            while ahead:
                name = ahead.pop()
                if name is None:
                    finished.add(path.pop())
                elif name in path:
                    rings.append(path[path.index(name) :])
                elif name not in finished:
                    path.append(name)
                    ahead.append(None)
                    ahead.extend(reversed(edges[name]))
        return rings

    def topological_sort(self) -> list[str]:
        """The steps so that each comes after what it depends on; otherwise in the order in which they were added.

        # Raises
        ValueError when some depend on each other.
        """
        return [name for group in self.find_parallel_groups() for name in group]

    def find_parallel_groups(self) -> list[list[str]]:
        """The steps in waves: what stands in one depends on earlier ones only, so that it could run at once.

        # Raises
        ValueError when some depend on each other.
        """
        left = {name: set(needed) for name, needed in self.build_edges().items()}
        groups: list[list[str]] = []
        while left:
            ready = [name for name, needed in left.items() if not needed & left.keys()]
            if not ready:
                ring = self.detect_cycles()[0]
                raise ValueError(f"Circular dependency detected: {ring_text(ring)}")
            groups.append(ready)
            for name in ready:
                del left[name]
        return groups


def ring_text(ring: list[str]) -> str:
    """A ring as people read it: `a -> b -> a`."""
    return " -> ".join([*ring, ring[0]])
