"""Composition: what `>>` and lists make, and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cerebelum import step
from cerebelum.steps import Step
from cerebelum.timeline import ParallelStepGroup, StepComposition


@step
async def a(context: Any) -> str:
    return "A"


@step
async def b(context: Any) -> str:
    return "B"


@step
async def c(context: Any) -> str:
    return "C"


@step
async def d(context: Any) -> str:
    return "D"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: a >> b, "a >> b"),
        (lambda: a >> b >> c, "a >> b >> c"),
        (lambda: a >> (b >> c), "a >> b >> c"),
        (lambda: (a >> b) >> (c >> d), "a >> b >> c >> d"),
        (lambda: a >> [b, c] >> d, "a >> [b, c] >> d"),
        (lambda: [b, c] >> d, "[b, c] >> d"),
        (lambda: [b, c] >> (d >> a), "[b, c] >> d >> a"),
        (lambda: a >> [b] >> [c, d], "a >> [b] >> [c, d]"),
        (lambda: a >> [b >> c, d], "a >> [b >> c, d]"),
        (lambda: a >> [[b, c], d], "a >> [[b, c], d]"),
        (lambda: a >> (b, c), "a >> [b, c]"),
        (lambda: ParallelStepGroup([a, b]) >> [c, d], "[a, b] >> [c, d]"),
        (lambda: [a, b] >> ParallelStepGroup([c, d]), "[a, b] >> [c, d]"),
        (lambda: a >> [b >> [c, d] >> d.with_options(timeout=5)], "a >> [b >> [c, d] >> d]"),
    ],
)
def test_a_composition_reads_as_it_is_written(made: Any, expected: str) -> None:
    assert repr(made()) == expected
    assert isinstance(made(), StepComposition)


def test_steps_are_named_in_the_order_in_which_they_are_written() -> None:
    assert [there.name for there in (a >> [b >> c, d]).steps()] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("made", [lambda: a >> [], lambda: [] >> a, lambda: a >> [b, []], lambda: StepComposition([])])
def test_an_empty_list_is_a_value_error(made: Any) -> None:
    with pytest.raises(ValueError, match="needs at least one step"):
        made()


async def plain(context: Any) -> None:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: a >> "b", "a timeline is made of steps, not of 'b'"),
        (lambda: 1 >> a, "a timeline is made of steps, not of 1"),
        (lambda: a >> [b, None], "a timeline is made of steps, not of None"),
        (lambda: a >> plain, "'plain' is a function and not a step: put @step above it"),
        (lambda: a >> {b, c}, "a timeline is made of steps, not of"),
        (lambda: a >> plain(None), r"a timeline names steps and does not call them: write plain, not plain\(…\)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_step_is_a_type_error_with_a_clear_line(made: Any, expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        made()


def test_a_group_is_entered_by_the_first_step_of_a_branch_only() -> None:
    line = a >> [b >> c, d]
    assert [line.entry_of(name) for name in "abcdx"] == [0, 1, None, 1, None]


def test_a_step_can_still_be_called_like_a_function(host: Any) -> None:
    from cerebelum._host import enter

    async def scoped() -> Any:
        enter(host)
        return await a(None)

    assert isinstance(a, Step)
    assert asyncio.run(scoped()) == "A"
