"""The dependency graph on its own."""

from __future__ import annotations

import pytest

from cerebelum.timeline import DependencyGraph


def graph(**steps: str) -> DependencyGraph:
    made = DependencyGraph()
    for name, needed in steps.items():
        made.add_step(name, needed.split())
    return made


def test_edges_leave_out_what_is_not_there() -> None:
    assert graph(a="inputs", b="a nothing").build_edges() == {"a": [], "b": ["a"]}


def test_a_step_that_is_added_twice_depends_on_both() -> None:
    made = graph(a="", b="", c="a")
    made.build_edges()
    made.add_step("c", ["b", "a"])
    assert made.build_edges()["c"] == ["a", "b"]


@pytest.mark.parametrize(
    ("steps", "rings"),
    [
        ({"a": "", "b": "a", "c": "a b"}, []),
        ({"a": "b", "b": "a"}, [["a", "b"]]),
        ({"a": "a"}, [["a"]]),
        ({"a": "", "b": "a d", "c": "b", "d": "c"}, [["b", "d", "c"]]),
        ({"a": "b", "b": "a", "c": "d", "d": "c", "e": "a c"}, [["a", "b"], ["c", "d"]]),
        ({"a": "b c", "b": "d", "c": "d", "d": ""}, []),
    ],
)
def test_rings_are_found_each_once(steps: dict[str, str], rings: list[list[str]]) -> None:
    assert graph(**steps).detect_cycles() == rings


def test_each_step_comes_after_what_it_needs() -> None:
    made = graph(ship="pay pack", pack="order", pay="order", order="")
    assert made.topological_sort() == ["order", "pack", "pay", "ship"]
    assert made.find_parallel_groups() == [["order"], ["pack", "pay"], ["ship"]]


def test_a_ring_has_no_order() -> None:
    with pytest.raises(ValueError, match="Circular dependency detected: a -> b -> a"):
        graph(a="b", b="a").topological_sort()


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    made = DependencyGraph()
    for number in range(5_000):
        made.add_step(f"s{number}", [f"s{number + 1}"])
    assert made.detect_cycles() == []
    made.add_step("s5000", ["s0"])
    assert len(made.detect_cycles()[0]) == 5_001
