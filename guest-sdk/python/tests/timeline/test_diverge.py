"""Diverge: which pattern matches, and where each target leads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cerebelum import Failure, StepError, retry, step
from cerebelum.errors import DependencyError
from cerebelum.timeline import back_to, end, fail, skip_to


@pytest.mark.parametrize(
    ("answer", "patterns", "taken"),
    [
        ("premium", {"premium": "x", "ok": "y"}, "x"),
        ("basic", {"premium": "x", "ok": "y"}, "y"),
        ("basic", {"ok": "y", "_": "x"}, "y"),
        ("basic", {"_": "x"}, "x"),
        ("basic", {"premium": "x"}, None),
        ("basic", {"error": "x"}, None),
        # Reserved words are about what became of the step, not about values of that name.
        ("error", {"error": "x", "_": "y"}, "y"),
        ({"ok": "premium"}, {"premium": "x"}, "x"),
        (True, {True: "x"}, "x"),
        (1, {True: "x"}, None),
        (True, {1: "x"}, None),
        (False, {0: "x"}, None),
        (42, {"42": "x", 42: "y"}, "y"),
        (1.0, {1: "x"}, "x"),
        (None, {None: "x"}, "x"),
        (False, {None: "x"}, None),
        (["premium"], {"premium": "x"}, None),
        ({"error": "no stock"}, {"ok": "x", "no stock": "y", "error": "z"}, "y"),
        ({"error": "no stock"}, {"error": "z", "_": "y"}, "z"),
        ({"error": "no stock"}, {"_": "y"}, "y"),
        ({"error": {"code": 4}}, {'{"code": 4}': "x"}, "x"),
        ({"error": 42}, {42: "x", "42": "y"}, "y"),
        (ValueError("broken"), {"broken": "x"}, "x"),
        (KeyError(), {"KeyError": "x"}, "x"),
        (Failure("gone", kind="http-404"), {"gone": "x"}, "x"),
    ],
)
def test_the_first_pattern_that_matches_counts(
    run: Any, flow: Any, answers: Any, host: Any, answer: Any, patterns: dict[Any, str], taken: str | None
) -> None:
    first, last = answers("first", answer), answers("last")
    targets = {name: answers(name) for name in "xyz"}

    def body(wf: Any) -> None:
        wf.timeline(first >> last)
        wf.diverge(first, {pattern: targets[name] for pattern, name in patterns.items()})

    assert run(flow(body)) == "LAST"
    assert host.calls == ["first", *([taken] if taken else []), "last"]


def test_an_error_that_no_pattern_matches_fails_the_execution(run: Any, flow: Any, answers: Any, host: Any) -> None:
    first = answers("first", {"error": "fire"})

    def body(wf: Any) -> None:
        wf.timeline(first >> answers("last"))
        wf.diverge(from_step=first, patterns={"flood": answers("x"), "ok": answers("y")})

    with pytest.raises(StepError, match="fire"):
        run(flow(body))
    assert host.calls == ["first"]


@pytest.mark.parametrize("spelling", ["positional", "from_step", "from_"])
def test_the_step_of_a_diverge_is_given_in_any_spelling(
    run: Any, flow: Any, answers: Any, host: Any, spelling: str
) -> None:
    first, other = answers("first"), answers("other")

    def body(wf: Any) -> None:
        wf.timeline(first)
        if spelling == "positional":
            wf.diverge(first, {"ok": other})
        else:
            wf.diverge(**{spelling: first}, patterns={"ok": other})

    assert run(flow(body)) == "OTHER"
    assert host.calls == ["first", "other"]


def test_a_composition_runs_completely_and_then_the_timeline_continues(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    first, last = answers("first", ValueError("no")), answers("last")
    x, y, z = (answers(name) for name in "xyz")

    @step
    async def undo(context: Any, x: str, y: str, first: str = "none") -> list[str]:
        return [x, y, first]

    def body(wf: Any) -> None:
        wf.timeline(first >> last)
        wf.diverge(first, {"error": x >> [y, z] >> undo})

    assert run(flow(body)) == "LAST"
    assert host.calls == ["first", "x", "y", "z", "undo", "last"]
    assert host.inputs["undo"] == [{"x": "X", "y": "Y"}]


def test_what_a_target_answers_is_the_output_when_it_ran_last(run: Any, flow: Any, answers: Any) -> None:
    first = answers("first", ValueError("no"))

    def body(wf: Any) -> None:
        wf.timeline(answers("zeroth") >> first)
        wf.diverge(first, {"error": [answers("x"), answers("y")]})

    assert run(flow(body)) == {"x": "X", "y": "Y"}


def test_a_target_that_stands_later_in_the_timeline_does_not_run_again(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    a, b, c = answers("a", "fast", "slow"), answers("b"), answers("c")

    def body(wf: Any) -> None:
        wf.timeline(a >> b >> c)
        wf.diverge(a, {"fast": c})

    run(flow(body))
    assert host.calls == ["a", "c", "b"]
    host.calls.clear()
    run(flow(body))
    assert host.calls == ["a", "b", "c"]


def test_a_step_in_a_target_has_rules_of_its_own(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a, refund, tell = answers("a", ValueError("no")), answers("refund", {"error": "bank"}), answers("tell")

    def body(wf: Any) -> None:
        wf.timeline(a >> answers("b"))
        wf.diverge(a, {"error": refund})
        wf.diverge(refund, {"bank": tell >> answers("stop")})
        wf.diverge("stop", {"_": end()})

    report = flow(body).validate()
    assert report.is_valid, str(report)
    assert run(flow(body)) == "STOP"
    assert host.calls == ["a", "refund", "tell", "stop"]


def test_retry_runs_the_step_again_after_a_growing_delay(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", {"error": "busy"}, {"error": "busy"}, {"error": "busy"}, "done")

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"busy": retry(3, delay=timedelta(seconds=1), backoff=2.0)})

    assert run(flow(body)) == "done"
    assert host.calls == ["a", ("sleep", 1_000), "a", ("sleep", 2_000), "a", ("sleep", 4_000), "a"]


def test_a_retry_without_a_delay_does_not_sleep(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", {"error": "busy"}, "done")

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"busy": retry(1)})

    assert run(flow(body)) == "done"
    assert host.calls == ["a", "a"]


def test_after_a_retry_the_patterns_are_looked_at_anew(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", {"error": "busy"}, {"error": "gone"})

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"busy": retry(5), "gone": answers("x")})

    assert run(flow(body)) == "X"
    assert host.calls == ["a", "a", "x"]


def test_each_retry_of_a_rule_counts_for_itself(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", {"error": "busy"}, {"error": "late"}, {"error": "busy"}, {"error": "late"}, {"error": "busy"})

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"busy": retry(2), "late": retry(2)})

    with pytest.raises(StepError, match="busy"):
        run(flow(body))
    assert host.calls == ["a"] * 5


def test_a_retry_that_is_used_up_ends_with_the_error_and_tries_no_other_pattern(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    a = answers("a", {"error": "busy"})

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"busy": retry(2), "error": answers("x")})

    with pytest.raises(StepError, match="busy"):
        run(flow(body))
    assert host.calls == ["a", "a", "a"]


def test_a_value_that_stays_the_same_uses_up_its_retry_and_fails(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", "pending")

    def body(wf: Any) -> None:
        wf.timeline(a >> answers("b"))
        wf.diverge(a, {"pending": retry(2)})

    with pytest.raises(Failure, match="Step 'a' still answered \"pending\" after 2 repetitions") as raised:
        run(flow(body))
    assert raised.value.kind == "retry-exhausted"
    assert not raised.value.retryable
    assert host.calls == ["a", "a", "a"]


def test_back_to_repeats_from_there_and_drops_the_results_since(run: Any, flow: Any, answers: Any, host: Any) -> None:
    @step
    async def a(context: Any, c: str = "none") -> str:
        return f"a after {c}"

    b, c = answers("b"), answers("c", "again", "done")

    @step
    async def zero(context: Any, b: str = "none") -> str:
        return b

    def body(wf: Any) -> None:
        wf.timeline(zero >> a >> b >> c)
        wf.diverge(c, {"again": back_to(a)})

    assert run(flow(body)) == "done"
    assert host.calls == ["zero", "a", "b", "c", "a", "b", "c"]
    assert host.inputs["a"] == ["none", "none"], "the result of c was dropped"


def test_back_to_keeps_the_results_before_its_target(run: Any, flow: Any, answers: Any, host: Any) -> None:
    @step
    async def b(context: Any, a: str) -> str:
        return a

    c = answers("c", "again", "done")

    def body(wf: Any) -> None:
        wf.timeline(answers("a") >> b >> c)
        wf.diverge(c, {"again": back_to("b")})

    assert run(flow(body)) == "done"
    assert host.calls == ["a", "b", "c", "b", "c"]


def test_back_to_may_lead_to_the_step_itself(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", "again", "again", "done")

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"again": back_to(a)})

    assert run(flow(body)) == "done"
    assert host.calls == ["a", "a", "a"]


def test_a_thousand_jumps_back_are_the_end(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", "again")

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"again": back_to(a)})

    with pytest.raises(Failure, match=r"Exceeded maximum iterations \(1000\)") as raised:
        run(flow(body))
    assert not raised.value.retryable
    assert host.calls == ["a"] * 1_001


def test_a_thousand_jumps_back_are_allowed(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", *["again"] * 1_000, "done")

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"again": back_to(a)})

    assert run(flow(body)) == "done"
    assert len(host.calls) == 1_001


def test_skip_to_leaves_out_what_stands_between(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a, d = answers("a"), answers("d", "again", "done")

    @step
    async def b(context: Any, a: str = "dropped") -> str:
        return a

    def body(wf: Any) -> None:
        wf.timeline(a >> b >> answers("c") >> d)
        wf.diverge(a, {"ok": skip_to(d)})
        wf.diverge(d, {"again": back_to(b)})

    assert run(flow(body)) == "done"
    assert host.calls == ["a", "d", "b", "c", "d"]
    assert host.inputs["b"] == ["A"], "what was known when b was skipped is known when it is gone back to"


def test_a_jump_to_the_first_step_of_a_branch_starts_the_whole_group(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    a, b, c, d = answers("a"), answers("b"), answers("c"), answers("d", "again", "done")

    def body(wf: Any) -> None:
        wf.timeline(a >> [b, c] >> d)
        wf.diverge(d, {"again": back_to(c)})

    assert run(flow(body)) == "done"
    assert host.calls == ["a", "b", "c", "d", "b", "c", "d"]


def test_jumps_within_a_branch_of_a_group_stay_there(run: Any, flow: Any, answers: Any, host: Any) -> None:
    b, c, d = answers("b"), answers("c", "again", "done"), answers("d")
    x, y = answers("x", {"error": "no"}), answers("y")

    def body(wf: Any) -> None:
        wf.timeline(answers("a") >> [b >> c, x >> y >> d])
        wf.diverge(c, {"again": back_to(b)})
        wf.diverge(x, {"error": skip_to(d)})

    assert run(flow(body)) == {"c": "done", "d": "D"}
    assert sorted(host.calls) == ["a", "b", "b", "c", "c", "d", "x"]


def test_a_jump_out_of_a_target_leads_back_into_the_timeline(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a, b, fix = answers("a"), answers("b", {"error": "no"}, "fine"), answers("fix")

    def body(wf: Any) -> None:
        wf.timeline(a >> b)
        wf.diverge(b, {"error": answers("log") >> fix >> answers("rest")})
        wf.diverge(fix, {"FIX": back_to(a)})

    assert run(flow(body)) == "fine"
    assert host.calls == ["a", "b", "log", "fix", "a", "b"]


@pytest.mark.parametrize(
    ("answer", "reason", "message", "error"),
    [
        ({"error": "no stock"}, "sold out", "sold out", "sold out"),
        ({"error": "no stock"}, None, "no stock", "no stock"),
        ({"error": "no stock"}, {"code": 4}, '{"code": 4}', {"code": 4}),
        ({"blocked": True}, None, '{"blocked": true}', {"blocked": True}),
    ],
)
def test_fail_fails_the_execution_with_its_reason(
    run: Any, flow: Any, answers: Any, answer: Any, reason: Any, message: str, error: Any
) -> None:
    a = answers("a", answer)

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"_": fail(reason)})

    with pytest.raises(Failure) as raised:
        run(flow(body))
    assert raised.value.message == message
    assert raised.value.details == {"step": "a", "error": error}
    assert not raised.value.retryable


def test_fail_in_a_group_waits_for_the_other_branches(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", ValueError("no"))

    def body(wf: Any) -> None:
        wf.timeline([[a, answers("b") >> answers("c")]])
        wf.diverge(a, {"error": fail("stopped")})

    with pytest.raises(Failure, match="stopped"):
        run(flow(body))
    assert host.calls == ["a", "b", "c"]


def test_end_completes_with_the_value_of_the_last_step_that_succeeded(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    a, b = answers("a"), answers("b", {"error": "nothing to do"})

    def body(wf: Any) -> None:
        wf.timeline(a >> b >> answers("c"))
        wf.diverge(b, {"nothing to do": end()})

    assert run(flow(body)) == "A"
    assert host.calls == ["a", "b"]


def test_a_failure_that_a_rule_took_over_leaves_no_result(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", "fine", {"error": "no"})

    @step
    async def c(context: Any, a: str = "none") -> str:
        return a

    def body(wf: Any) -> None:
        wf.timeline(a >> answers("b") >> c)
        wf.diverge(a, {"fine": retry(1), "error": skip_to(c)})

    assert run(flow(body)) == "none"


def test_a_repetition_begins_from_what_was_known_before_the_step(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a = answers("a", "odd", "even")

    @step
    async def last(context: Any, x: str = "dropped") -> str:
        return x

    def body(wf: Any) -> None:
        wf.timeline(a >> last)
        wf.diverge(a, {"odd": answers("x")})
        wf.branch(a, lambda value: value == "odd", when_true=retry(1))

    assert run(flow(body)) == "dropped"
    assert host.calls == ["a", "x", "a", "last"]


def test_a_value_that_was_repeated_away_is_not_the_output(run: Any, flow: Any, answers: Any) -> None:
    a = answers("a", "pending", {"error": "gone"})

    def body(wf: Any) -> None:
        wf.timeline(answers("zeroth") >> a)
        wf.diverge(a, {"pending": retry(1), "error": end()})

    assert run(flow(body)) == "ZEROTH"


def test_what_ran_as_a_target_in_a_group_does_not_run_again_behind_it(
    run: Any, flow: Any, answers: Any, host: Any
) -> None:
    a, c = answers("a"), answers("c")

    def body(wf: Any) -> None:
        wf.timeline([[a, answers("b")], c])
        wf.diverge(a, {"ok": c})

    run(flow(body))
    assert host.calls == ["a", "b", "c"]


def test_a_failure_within_a_group_takes_the_earlier_result_away(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a, b, told = answers("a"), answers("b"), answers("told", "fine", {"error": "no"})

    @step
    async def optional(context: Any, told: str = "none") -> str:
        return told

    @step
    async def required(context: Any, told: str) -> str:
        return told

    def body(wf: Any) -> None:
        wf.timeline(a >> [b, answers("c")] >> optional >> required)
        wf.diverge(a, {"ok": told})
        wf.diverge(b, {"ok": told})
        wf.diverge(told, {"error": answers("x")})

    with pytest.raises(DependencyError, match="'told': it failed, and a rule took over"):
        run(flow(body))
    assert host.calls == ["a", "told", "b", "c", "told", "x", "optional"]
    assert host.inputs["optional"] == ["none"]
