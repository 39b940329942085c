"""Branch: one way or the other, never both."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from cerebelum import StepError, retry, step
from cerebelum.errors import failure_of
from cerebelum.timeline import back_to, end, fail, skip_to


@pytest.mark.parametrize(("score", "expected"), [(9, ["check", "yes", "last"]), (1, ["check", "no", "last"])])
@pytest.mark.parametrize("spelling", ["condition", "on"])
def test_only_the_side_that_is_taken_runs(
    run: Any, flow: Any, answers: Any, host: Any, score: int, expected: list[str], spelling: str
) -> None:
    check = answers("check", {"ok": score})

    def body(wf: Any) -> None:
        wf.timeline(check >> answers("last"))
        predicate: Any = {spelling: lambda score: score > 5}
        wf.branch(after=check, **predicate, when_true=answers("yes"), when_false=answers("no"))

    assert run(flow(body)) == "LAST"
    assert host.calls == expected


@pytest.mark.parametrize(("score", "expected"), [(9, ["check", "yes", "last"]), (1, ["check", "no", "more", "last"])])
def test_the_side_not_taken_does_not_run_even_if_it_stands_in_the_timeline(
    run: Any, flow: Any, answers: Any, host: Any, score: int, expected: list[str]
) -> None:
    check, yes, no, more = answers("check", score), answers("yes"), answers("no"), answers("more")

    def body(wf: Any) -> None:
        wf.timeline(check >> yes >> no >> more >> answers("last"))
        wf.branch(check, lambda score: score > 5, yes, no >> more)

    assert run(flow(body)) == "LAST"
    assert host.calls == expected


def test_sides_in_a_group_of_the_timeline_do_not_run_there(run: Any, flow: Any, answers: Any, host: Any) -> None:
    check, yes, no = answers("check", True), answers("yes"), answers("no")

    def body(wf: Any) -> None:
        wf.timeline(check >> [yes, no, answers("other")])
        wf.branch(check, bool, yes, no)

    assert run(flow(body)) == {"other": "OTHER"}
    assert host.calls == ["check", "yes", "other"]


@pytest.mark.parametrize(("holds", "expected"), [(True, ["check", "yes", "last"]), (False, ["check", "last"])])
def test_without_when_false_the_timeline_simply_goes_on(
    run: Any, flow: Any, answers: Any, host: Any, holds: bool, expected: list[str]
) -> None:
    check, yes = answers("check", holds), answers("yes")

    def body(wf: Any) -> None:
        wf.timeline(check >> yes >> answers("last"))
        wf.branch(after=check, condition=lambda holds: holds, when_true=yes)

    run(flow(body))
    assert host.calls == expected


def test_a_predicate_may_be_async_and_gets_the_value_as_it_is_hinted(run: Any, flow: Any, answers: Any) -> None:
    seen = []

    @step
    async def check(context: Any) -> int:
        return 7

    async def predicate(value: int) -> bool:
        await asyncio.sleep(0)
        seen.append(value)
        return False

    def body(wf: Any) -> None:
        wf.timeline(check >> answers("last"))
        wf.branch(after=check, condition=predicate, when_true=fail("no"), when_false=answers("no"))

    run(flow(body))
    assert seen == [7]


def test_a_predicate_that_raises_fails_the_execution_with_its_traceback(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    check = answers("check", {"present": 1})

    def body(wf: Any) -> None:
        wf.timeline(check >> answers("last"))
        wf.branch(after=check, condition=lambda value: value["missing"] > 1, when_true=answers("yes"))

    with pytest.raises(KeyError) as raised:
        run(flow(body))
    assert 'value["missing"] > 1' in "".join(traceback.format_exception(raised.value))
    failure = failure_of(raised.value)
    assert failure.type == "KeyError"
    assert failure.traceback is not None
    assert "<lambda>" in failure.traceback
    assert host.calls == ["check"]


@pytest.mark.parametrize(
    ("when_true", "expected"),
    [
        (skip_to("d"), ["a", "b", "d"]),
        (back_to("a"), ["a", "b", "a", "b", "c", "d"]),
        (end(), ["a", "b"]),
        (retry(3, delay=10), ["a", "b", ("sleep", 10), "b", "c", "d"]),
    ],
)
def test_a_side_may_be_an_action(
    run: Any, flow: Any, answers: Any, host: Any, when_true: Any, expected: list[Any]
) -> None:
    b = answers("b", True, False)

    def body(wf: Any) -> None:
        wf.timeline(answers("a") >> b >> answers("c") >> answers("d"))
        wf.branch(after=b, condition=bool, when_true=when_true)

    run(flow(body))
    assert host.calls == expected


def test_diverge_is_looked_at_before_branch(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", "odd")

    def body(wf: Any) -> None:
        wf.timeline(a >> answers("last"))
        wf.branch(after=a, condition=lambda value: value == "odd", when_true=answers("branched"))
        wf.diverge(a, {"odd": answers("diverged")})

    run(flow(body))
    assert host.calls == ["a", "diverged", "branched", "last"]


@pytest.mark.parametrize("turn", [end(), skip_to("last")])
def test_a_diverge_that_leads_away_leaves_the_branch_out(
    run: Any, flow: Any, answers: Any, host: Any, turn: Any
) -> None:
    a = answers("a", "odd")

    def body(wf: Any) -> None:
        wf.timeline(a >> answers("last"))
        wf.branch(after=a, condition=lambda value: 1 / 0, when_true=answers("branched"))
        wf.diverge(a, {"odd": turn})

    run(flow(body))
    assert "branched" not in host.calls


def test_after_a_failure_that_a_rule_took_over_neither_side_runs(run: Any, flow: Any, answers: Any, host: Any) -> None:
    check, yes, no = answers("check", {"error": "down"}), answers("yes"), answers("no")

    def body(wf: Any) -> None:
        wf.timeline(check >> yes >> no >> answers("last"))
        wf.branch(after=check, condition=lambda value: 1 / 0, when_true=yes, when_false=no)
        wf.diverge(check, {"down": answers("tell")})

    run(flow(body))
    assert host.calls == ["check", "tell", "last"]


def test_a_jump_reaches_a_side_that_stands_in_the_timeline(run: Any, flow: Any, answers: Any, host: Any) -> None:
    check, yes, no = answers("check", True), answers("yes"), answers("no")
    last = answers("last", "redo", "done")

    def body(wf: Any) -> None:
        wf.timeline(check >> yes >> no >> last)
        wf.branch(after=check, condition=bool, when_true=yes, when_false=no)
        wf.diverge(last, {"redo": back_to(no)})

    run(flow(body))
    assert host.calls == ["check", "yes", "last", "no", "last"]


def test_after_a_jump_back_the_branch_decides_anew(run: Any, flow: Any, answers: Any, host: Any) -> None:
    check, yes, no = answers("check", True, False), answers("yes"), answers("no")

    @step
    async def last(context: Any, yes: str = "-", no: str = "-") -> str:
        return yes + no

    def body(wf: Any) -> None:
        wf.timeline(check >> yes >> no >> last)
        wf.branch(after=check, condition=bool, when_true=yes, when_false=no)
        wf.diverge(last, {"YES-": back_to(check)})

    assert run(flow(body)) == "-NO"
    assert host.calls == ["check", "yes", "last", "check", "no", "last"]


def test_a_branch_within_a_group_concerns_its_branch_only(run: Any, flow: Any, answers: Any, host: Any) -> None:
    check, other = answers("check", False), answers("other")

    def body(wf: Any) -> None:
        wf.timeline(answers("a") >> [check >> answers("after"), other])
        wf.branch(after=check, condition=bool, when_true=answers("yes"), when_false=answers("no"))

    assert run(flow(body)) == {"after": "AFTER", "other": "OTHER"}
    assert host.calls == ["a", "check", "other", "no", "after"]


def test_a_side_that_fails_fails_the_execution(run: Any, flow: Any, answers: Any) -> None:
    check = answers("check", True)

    def body(wf: Any) -> None:
        wf.timeline(check)
        wf.branch(after=check, condition=bool, when_true=answers("yes", ValueError("broke")))

    with pytest.raises(StepError, match="broke"):
        run(flow(body))


def test_a_hint_about_the_envelope_does_not_disturb_the_condition(run: Any, flow: Any, answers: Any) -> None:
    @step
    async def check(context: Any) -> dict:  # type: ignore[type-arg]
        return {"ok": 9}

    def body(wf: Any) -> None:
        wf.timeline(check)
        wf.branch(after=check, condition=lambda value: value > 5, when_true=answers("yes"))

    assert run(flow(body)) == "YES"
