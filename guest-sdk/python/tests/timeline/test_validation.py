"""Validation: everything that is wrong, at once, in words that say what to do."""

from __future__ import annotations

from typing import Any

import pytest

from cerebelum import retry, step, workflow
from cerebelum.errors import StepDefinitionError, WorkflowDefinitionError
from cerebelum.timeline import Workflow, back_to, end, fail, skip_to


def make(name: str, needs: str = "") -> Any:
    """A step with parameters of these names; `x?` is optional."""
    parameters = "".join(f", {need.rstrip('?')}{'=None' if need.endswith('?') else ''}" for need in needs.split())
    space: dict[str, Any] = {}
    exec(f"async def {name}(context{parameters}): return '{name}'", space)
    return step(space[name])


def check(body: Any, errors: list[str], warnings: list[str] | None = None) -> None:
    """Compares what is wrong; each expectation is a part of the line."""
    report = Workflow(body, "flow").validate()
    for found, expected in ((report.errors, errors), (report.warnings, warnings)):
        if expected is None:
            continue
        assert len(found) == len(expected), f"{report}"
        for line, part in zip(found, expected, strict=True):
            assert part in line, f"{line!r} should contain {part!r}"
    assert report.is_valid == (not errors)


a, b, c, d = (make(name) for name in "abcd")
start = make("start", "inputs")


def test_a_sound_workflow_has_no_problems() -> None:
    check(lambda wf: wf.timeline(start >> [b, c] >> make("last", "b c start")), [], [])


def test_an_empty_timeline() -> None:
    check(
        lambda wf: None,
        ["Workflow 'flow' has empty timeline. Use wf.timeline() to define at least one step."],
    )


def test_a_dependency_that_does_not_exist_is_reported_once_with_what_is_there() -> None:
    q = make("q", "n")
    check(lambda wf: wf.timeline(a >> q), ["Step 'q' depends on 'n' which does not exist. Available steps: ['a', 'q']"])


def test_a_dependency_that_is_misspelled_is_recognized() -> None:
    check(
        lambda wf: wf.timeline(make("fetch_user") >> make("send", "fetch_usr")),
        ["Available steps: ['fetch_user', 'send'] Did you mean 'fetch_user'?"],
    )
    check(lambda wf: wf.timeline(make("send", "input")), ["Did you mean 'inputs'?"])
    check(
        lambda wf: wf.timeline(make("fetch_user") >> make("send", "inputs fetch_usr?")),
        [],
        ["Step 'send' takes 'fetch_usr', which is not a step: it always gets its default. Did you mean 'fetch_user'?"],
    )


def test_a_step_of_another_timeline_is_not_taken_for_a_misspelling() -> None:
    make("fetch_users")
    check(lambda wf: wf.timeline(make("fetch_user") >> make("send", "inputs fetch_users?")), [], [])


def test_a_circular_dependency_with_a_suggestion() -> None:
    one, two = make("one", "two"), make("two", "one")
    check(
        lambda wf: wf.timeline(one >> two),
        ["Circular dependency detected: one -> two -> one. Take one of these parameters away, or give it a default"],
    )
    check(lambda wf: wf.timeline(a >> make("own", "own")), ["Circular dependency detected: own -> own"])


def test_a_default_breaks_a_circle() -> None:
    check(lambda wf: wf.timeline(make("one", "two?") >> make("two", "one")), [])


def test_a_dependency_on_a_later_step() -> None:
    check(
        lambda wf: wf.timeline(make("early", "late") >> make("late")), ["'early' depends on 'late', which runs later"]
    )


@pytest.mark.parametrize("shape", [lambda x, y: a >> [x, y], lambda x, y: [a >> x, b >> [c, y]] >> d])
def test_a_dependency_within_a_parallel_group(shape: Any) -> None:
    x, y = make("x", "y"), make("y")
    check(lambda wf: wf.timeline(shape(x, y)), ["Step 'x' depends on 'y', which runs in the same parallel group"])


def test_a_dependency_on_the_other_side_of_a_branch() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> b)
        wf.branch(after=a, condition=bool, when_true=make("yes"), when_false=make("no", "yes"))

    check(body, ["Step 'no' depends on 'yes', which only runs on another way, in a target of the branch after 'a'"])


def test_a_dependency_of_a_side_on_what_stands_between() -> None:
    def body(wf: Any) -> None:
        yes = make("yes", "b")
        wf.timeline(a >> b >> yes)
        wf.branch(after=a, condition=bool, when_true=yes)

    check(body, ["Step 'yes' depends on 'b', which no way runs before it"])


def test_a_dependency_that_is_not_there_on_every_way_is_doubtful() -> None:
    def body(wf: Any) -> None:
        wf.timeline(start >> b >> make("last", "start yes"))
        wf.branch(after=b, condition=bool, when_true=make("yes"))
        wf.diverge(start, {"error": make("instead")})

    check(
        body,
        [],
        [
            "Step 'last' needs 'start', which has no result on every way that leads to it",
            "Step 'last' needs 'yes', which has no result on every way",
        ],
    )


def test_what_is_there_on_every_way_is_no_doubt() -> None:
    def body(wf: Any) -> None:
        yes, no = make("yes"), make("no")
        wf.timeline(start >> yes >> make("last", "start no"))
        wf.branch(after=start, condition=bool, when_true=yes >> end_here, when_false=no)
        wf.diverge(end_here, {"_": end()})
        wf.diverge(start, {"busy": retry(3), "error": fail("no")})

    end_here = make("end_here")
    check(body, [], [])


def test_no_step_takes_the_inputs() -> None:
    check(lambda wf: wf.timeline(a), [], ["No step takes 'inputs': what the workflow is given is not used"])


def test_a_step_stands_once() -> None:
    check(lambda wf: wf.timeline(a >> b >> a), ["Step 'a' stands 2 times in the timeline"])
    check(lambda wf: wf.timeline([a, [a, b >> a]]), ["Step 'a' stands 3 times in the timeline"])


def test_a_step_stands_once_in_a_target() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"ok": b >> b})

    check(body, ["Step 'b' stands 2 times in a target of the diverge from 'a'"])


def test_two_steps_of_the_same_name() -> None:
    check(
        lambda wf: wf.timeline(a >> [b, make("a")]), ["Step 'a' stands 2 times", "Two different steps are called 'a'"]
    )


def test_a_name_that_means_something_else() -> None:
    check(lambda wf: wf.timeline(make("inputs") >> a), ["A step cannot be called 'inputs'"])


def test_the_source_of_a_rule_that_is_not_there() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> b)
        wf.diverge(c, {"error": fail()})
        wf.branch(after=d, condition=bool, when_true=end())
        wf.diverge("aa", {"error": fail()})

    check(
        body,
        [
            "Diverge from 'c': 'c' stands neither in the timeline nor in a rule's target. Available steps: ['a', 'b']",
            "Diverge from 'aa': 'aa' stands neither in the timeline nor in a rule's target. Available steps: "
            "['a', 'b'] Did you mean 'a'?",
            "Branch after 'd': 'd' stands neither",
        ],
    )


def test_a_jump_to_what_is_not_there() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> make("fetch"))
        wf.diverge("fetch", {"error": back_to("fecth")})

    check(body, ["Diverge from 'fetch': back_to(fecth) jumps to a step that does not exist: 'fecth' stands neither"])


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"ok": skip_to("a")}, "skip_to(a) goes forward, but 'a' does not come later: use back_to(a)"),
        ({"ok": skip_to("b")}, "skip_to(b) goes forward, but 'b' does not come later"),
        ({"ok": back_to("d")}, "back_to(d) goes back, but 'd' comes later: use skip_to(d)"),
    ],
)
def test_a_jump_in_the_wrong_direction(patterns: Any, expected: str) -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> b >> c >> d)
        wf.diverge(b, patterns)

    check(body, [expected])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (lambda: back_to(a), "back_to(a) would leave a parallel group; inside a group a rule leads to steps, retry(n)"),
        (lambda: skip_to(d), "skip_to(d) would leave a parallel group"),
        (lambda: back_to(b), "back_to(b) would leave a parallel group"),
        (end, "end() would leave a parallel group"),
        (lambda: make("x") >> make("y"), None),
        (lambda: retry(3), None),
        (fail, None),
        (lambda: back_to(c), None),
    ],
)
def test_what_a_rule_inside_a_group_may_do(target: Any, expected: str | None) -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> [b, c] >> d)
        wf.diverge(c, {"error": target()})

    check(body, [expected] if expected else [])


def test_a_jump_into_the_middle_of_a_group() -> None:
    def body(wf: Any) -> None:
        wf.timeline([[a, b >> c], d])
        wf.diverge(d, {"error": back_to(c)})

    check(body, ["back_to(c) would land in the middle of a parallel group"])


def test_a_jump_into_the_target_of_another_rule() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> b)
        wf.diverge(a, {"error": c})
        wf.diverge(b, {"error": back_to(c)})

    check(body, ["back_to(c) leads into the target of another rule"])


@pytest.mark.parametrize(
    ("patterns", "dead"),
    [
        ({"_": fail("x"), "error": fail("y")}, "'error'"),
        ({"ok": fail("x"), "error": fail("y"), "other": fail("z")}, "'other'"),
        ({"ok": fail("x"), "error": fail("y"), "_": fail("z")}, "'_'"),
        ({"ok": fail("x"), 42: fail("z")}, "42"),
        ({"ok": fail("x"), "other": fail("z")}, None),
        ({"error": fail("x"), "_": fail("z")}, None),
    ],
)
def test_a_pattern_that_can_never_match(patterns: Any, dead: str | None) -> None:
    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, patterns)

    check(body, [f"Diverge from 'a': the pattern {dead} can never match"] if dead else [])


def test_a_step_that_can_never_run() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> b >> c)
        wf.diverge(a, {"ok": skip_to(c), "error": end()})

    check(body, ["Step 'b' can never run: every way through the timeline ends before it or passes it by"])


def test_a_target_that_stands_before_its_rule() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a >> b)
        wf.diverge(b, {"error": a})

    check(body, ["the target 'a' stands in the same line, not behind 'b': use back_to(a)"])


def test_rules_that_lead_in_a_circle() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"error": b})
        wf.diverge(b, {"error": c})
        wf.diverge(c, {"error": d >> b})

    check(body, ["Diverge from 'c': its target leads to 'b' again: use back_to(b) or retry(n)"])


def test_two_rules_for_a_step() -> None:
    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {"error": fail("x")})
        wf.diverge(a, {"ok": fail("x")})
        wf.branch(a, bool, fail("x"))
        wf.branch(a, bool, fail("x"))

    check(body, ["the step has patterns already (at ", "the step has a branch already (at "])


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda wf: wf.timeline([]), "the list of steps is empty"),
        (lambda wf: wf.timeline("a"), "a timeline is made of steps, not of 'a'"),
        (lambda wf: wf.diverge(patterns={"ok": b}), "from_step takes a step, not None"),
        (lambda wf: wf.diverge(a), "patterns is a dictionary with at least one line"),
        (lambda wf: wf.diverge(a, {}), "patterns is a dictionary with at least one line"),
        (lambda wf: wf.diverge(a, {("x",): b}), "the pattern ('x',) is neither a string nor a number"),
        (lambda wf: wf.diverge(a, {"ok": end}), "'ok': end is called: write end()"),
        (lambda wf: wf.diverge(a, {"ok": None}), "'ok': a timeline is made of steps, not of None; a rule leads to"),
        (lambda wf: wf.diverge(a, {"ok": []}), "'ok': a parallel group needs at least one step"),
        (lambda wf: wf.branch(condition=bool, when_true=b), "after takes a step, not None"),
        (lambda wf: wf.branch(after=a, when_true=b), "the branch after 'a' takes one condition"),
        (lambda wf: wf.branch(a, bool, b, on=bool), "the branch after 'a' takes one condition"),
        (lambda wf: wf.branch(a, bool), "the branch after 'a' leads nowhere"),
        (lambda wf: wf.branch(a, bool, "b"), "when_true: a timeline is made of steps, not of 'b'; a rule leads to"),
    ],
)
def test_a_call_that_makes_no_sense_is_reported_with_its_place(call: Any, expected: str) -> None:
    def body(wf: Any) -> None:
        wf.timeline(a)
        call(wf)

    check(body, [expected])
    assert __file__ in Workflow(body, "flow").validate().errors[0]


@pytest.mark.parametrize(
    ("raising", "expected"),
    [
        (lambda: a >> [], "ValueError at {place}: a parallel group needs at least one step: [] is empty"),
        (lambda: a >> 1, "TypeError at {place}: a timeline is made of steps, not of 1"),
        (lambda: missing, "NameError at {place}: name 'missing' is not defined"),  # type: ignore[name-defined] # noqa: F821
        (lambda: retry(0), "ValueError at {place}: retry(n) runs a step again at least once"),
        (lambda: retry(True), "TypeError at {place}: retry(n) takes a number of times, not True"),
        (lambda: retry(2, backoff=-1), "ValueError at {place}: the backoff of a retry is a factor above 0"),
        (lambda: back_to(None), "TypeError at {place}: back_to takes a step, not None"),  # type: ignore[arg-type]
    ],
)
def test_what_the_body_raises_is_reported_with_its_place(raising: Any, expected: str) -> None:
    def body(wf: Any) -> None:
        wf.timeline(a)
        raising()

    place = f"{__file__}:{body.__code__.co_firstlineno + 2}"
    check(body, [expected.format(place=place)], [])


def test_all_problems_come_at_once_and_keep_it_from_running() -> None:
    def body(wf: Any) -> None:
        wf.timeline(make("one", "two") >> make("two", "one") >> make("q", "n") >> a >> a)
        wf.diverge(a, {"_": fail("x"), "ok": fail("y")})
        wf.diverge("q", {"error": back_to("nowhere"), "late": end})

    errors = [
        "'late': end is called",
        "Step 'a' stands 2 times",
        "the pattern 'ok' can never match",
        "back_to(nowhere) jumps to a step that does not exist",
        "Step 'q' depends on 'n' which does not exist",
        "Circular dependency detected: one -> two",
    ]
    check(body, errors)
    with pytest.raises(WorkflowDefinitionError) as raised:
        _ = Workflow(body, "flow").definition
    assert raised.value.workflow == "flow"
    assert len(raised.value.errors) == len(errors)
    assert str(raised.value).startswith("Workflow 'flow' validation failed:\n  - ")


def test_hints_that_cannot_be_read() -> None:
    @step
    async def hinted(context: Any, inputs: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821

    check(lambda wf: wf.timeline(hinted), ["Step 'hinted': its type hints cannot be read: name 'Missing'"])


def test_an_async_workflow_has_nothing_to_validate() -> None:
    async def free(context: Any, inputs: Any) -> None: ...

    report = Workflow(free, "free").validate()
    assert report.is_valid
    assert (report.errors, report.warnings, str(report)) == ([], [], "no problems")


def test_a_definition_is_made_once() -> None:
    made = []

    def body(wf: Any) -> None:
        made.append(wf)
        wf.timeline(a)

    flow = Workflow(body, "flow")
    assert flow.definition is flow.definition
    assert len(made) == 1


def test_a_timeline_takes_one_parameter() -> None:
    with pytest.raises(WorkflowDefinitionError, match="a timeline takes exactly one parameter"):

        @workflow
        def flow(wf: Any, more: Any) -> None: ...


def test_a_step_must_be_async_and_take_the_context_first() -> None:
    with pytest.raises(StepDefinitionError, match=r"Step functions must be async\. Use 'async def'"):

        @step  # type: ignore[arg-type]
        def plain(context: Any) -> None: ...

    with pytest.raises(StepDefinitionError, match=r"First parameter must be 'context'\. Got: \['inputs'\]"):

        @step
        async def other(inputs: Any) -> None: ...


def test_a_jump_back_does_not_bring_the_results_of_later_steps() -> None:
    def body(wf: Any) -> None:
        wf.timeline(make("early", "late") >> make("late"))
        wf.diverge("late", {"again": back_to("early")})

    check(body, ["Step 'early' depends on 'late', which runs later"])
