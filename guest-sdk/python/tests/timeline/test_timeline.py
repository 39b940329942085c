"""The timeline itself: order, groups, results by name, output."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cerebelum import Failure, StepError, step
from cerebelum.errors import DependencyError, WorkflowDefinitionError
from cerebelum.timeline import end, fail, skip_to


@step
async def double(context: Any, inputs: int) -> int:
    return 2 * inputs


@step
async def add(context: Any, double: int, inputs: int) -> int:
    return double + inputs


def test_a_step_gets_the_inputs_and_results_by_the_names_of_its_parameters(run: Any, flow: Any, host: Any) -> None:
    assert run(flow(lambda wf: wf.timeline(double >> add)), 20) == 60
    assert host.calls == ["double", "add"]


def test_with_one_parameter_the_input_is_the_value_and_with_several_an_object(run: Any, flow: Any, host: Any) -> None:
    @step
    async def nothing(context: Any) -> None:
        return None

    run(flow(lambda wf: wf.timeline(double >> add >> nothing)), 20)
    assert host.inputs == {"double": [20], "add": [{"double": 40, "inputs": 20}], "nothing": [None]}


def test_big_integers_and_nested_nulls_pass_through_unharmed(run: Any, flow: Any) -> None:
    @step
    async def first(context: Any, inputs: Any) -> Any:
        return {"kept": inputs}

    @step
    async def second(context: Any, first: Any) -> Any:
        return [first, None]

    given = {"n": 2**53 + 1, "nested": {"null": None, "list": [None, {}]}, "nul": "\u0000"}
    assert run(flow(lambda wf: wf.timeline(first >> second)), given) == [{"kept": given}, None]


def test_a_parameter_with_a_default_is_optional(run: Any, flow: Any, answers: Any, host: Any) -> None:
    first, between = answers("first"), answers("between")

    @step
    async def last(context: Any, first: str, between: str = "nothing", nowhere: int = 7, later: str = "-") -> Any:
        return [first, between, nowhere, later]

    @step
    async def only(context: Any, between: str = "nothing") -> str:
        return between

    def body(wf: Any) -> None:
        wf.timeline(first >> between >> last >> only >> answers("later"))
        wf.diverge(first, {"FIRST": skip_to(last)})
        wf.diverge(only, {"_": end()})

    assert not flow(body).validate().is_valid, "what stands behind an end never runs"

    def without_end(wf: Any) -> None:
        wf.timeline(first >> between >> last >> only)
        wf.diverge(first, {"FIRST": skip_to(last)})

    assert run(flow(without_end)) == "nothing"
    assert host.inputs["last"] == [{"first": "FIRST"}]
    assert host.inputs["only"] == ["nothing"]


def test_an_optional_result_that_is_there_is_handed_over(run: Any, flow: Any, answers: Any) -> None:
    @step
    async def last(context: Any, first: str = "nothing") -> str:
        return first

    assert run(flow(lambda wf: wf.timeline(answers("first") >> last))) == "FIRST"


def test_steps_of_a_group_run_at_the_same_time(run: Any, flow: Any, host: Any) -> None:
    met = asyncio.Event()

    @step
    async def waits(context: Any) -> str:
        await asyncio.wait_for(met.wait(), timeout=5)
        return "met"

    @step
    async def meets(context: Any) -> str:
        met.set()
        return "there"

    assert run(flow(lambda wf: wf.timeline([[waits, meets]]))) == {"waits": "met", "meets": "there"}
    assert host.calls == ["waits", "meets"]


def test_a_composition_in_a_group_is_a_branch_in_order(run: Any, flow: Any, answers: Any, host: Any) -> None:
    @step
    async def after_b(context: Any, b: str) -> str:
        return f"after {b}"

    @step
    async def collect(context: Any, b: str, after_b: str, d: str) -> Any:
        return [b, after_b, d]

    a, b, d = answers("a"), answers("b"), answers("d")
    assert run(flow(lambda wf: wf.timeline(a >> [b >> after_b, d] >> collect))) == ["B", "after B", "D"]
    assert host.calls == ["a", "b", "d", "after_b", "collect"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (lambda a, b, c, d: a >> b, "B"),
        (lambda a, b, c, d: a >> [b, c], {"b": "B", "c": "C"}),
        (lambda a, b, c, d: a >> [b], {"b": "B"}),
        (lambda a, b, c, d: a >> [b >> c, d], {"c": "C", "d": "D"}),
        (lambda a, b, c, d: a >> [[b, c], d], {"b": "B", "c": "C", "d": "D"}),
        (lambda a, b, c, d: [a, b] >> c, "C"),
    ],
)
def test_the_output_is_the_value_of_what_ran_last(run: Any, flow: Any, answers: Any, shape: Any, expected: Any) -> None:
    steps = [answers(name) for name in "abcd"]
    assert run(flow(lambda wf: wf.timeline(shape(*steps)))) == expected


def test_a_list_alone_is_a_timeline_in_order_and_calls_append(run: Any, flow: Any, answers: Any, host: Any) -> None:
    a, b, c, d, e = (answers(name) for name in "abcde")

    def body(wf: Any) -> None:
        wf.timeline([a, b])
        wf.timeline(c)
        wf.timeline([[d, e]])

    assert run(flow(body)) == {"d": "D", "e": "E"}
    assert host.calls == ["a", "b", "c", "d", "e"]
    assert repr(flow(body).definition.timeline) == "a >> b >> c >> [d, e]"


def test_an_envelope_is_opened_for_whoever_takes_the_result(run: Any, flow: Any, answers: Any) -> None:
    @step
    async def last(context: Any, first: Any) -> Any:
        return {"ok": {"first": first}}

    assert run(flow(lambda wf: wf.timeline(answers("first", {"ok": 1}) >> last))) == {"first": 1}


def test_a_dictionary_that_is_more_than_an_envelope_stays_as_it_is(run: Any, flow: Any, answers: Any) -> None:
    value = {"ok": 1, "error": None}
    assert run(flow(lambda wf: wf.timeline(answers("first", value)))) == value


@pytest.mark.parametrize(
    ("answer", "error", "kind"),
    [
        ({"error": "no stock"}, "no stock", "failure"),
        ({"error": {"code": 4}}, {"code": 4}, "failure"),
        (ValueError("broken"), "broken", "exception"),
        (Failure("said so", kind="mine"), "said so", "mine"),
    ],
)
def test_an_error_without_a_diverge_fails_the_execution(
    run: Any, flow: Any, answers: Any, host: Any, answer: Any, error: Any, kind: str
) -> None:
    with pytest.raises(StepError) as raised:
        run(flow(lambda wf: wf.timeline(answers("first", answer) >> answers("second"))))
    assert (raised.value.step, raised.value.error, raised.value.kind) == ("first", error, kind)
    assert host.calls == ["first"]


def test_all_of_a_group_is_awaited_and_the_first_failure_in_order_counts(run: Any, flow: Any, host: Any) -> None:
    ended = []
    quick_ended, fine_ended = asyncio.Event(), asyncio.Event()

    @step
    async def slow(context: Any) -> None:
        await fine_ended.wait()
        ended.append("slow")
        raise ValueError("slow broke")

    @step
    async def quick(context: Any) -> None:
        ended.append("quick")
        quick_ended.set()
        raise ValueError("quick broke")

    @step
    async def fine(context: Any) -> None:
        await quick_ended.wait()
        ended.append("fine")
        fine_ended.set()

    @step
    async def never(context: Any) -> None: ...

    with pytest.raises(StepError, match="slow broke"):
        run(flow(lambda wf: wf.timeline([[slow, quick, fine], never])))
    assert ended == ["quick", "fine", "slow"]
    assert "never" not in host.calls


def test_a_failure_in_a_group_that_diverges_does_not_fail_it(run: Any, flow: Any, answers: Any, host: Any) -> None:
    broken, instead, fine = answers("broken", ValueError("no")), answers("instead"), answers("fine")

    @step
    async def last(context: Any, fine: str, broken: str = "default", instead: str = "") -> Any:
        return [fine, broken, instead]

    def body(wf: Any) -> None:
        wf.timeline([[broken, fine], last])
        wf.diverge(broken, {"error": instead})

    assert run(flow(body)) == ["FINE", "default", "INSTEAD"]
    assert host.calls == ["broken", "fine", "instead", "last"]


def test_members_of_a_group_do_not_see_each_other(run: Any, flow: Any, answers: Any) -> None:
    @step
    async def curious(context: Any, fine: str = "unseen") -> str:
        return fine

    assert run(flow(lambda wf: wf.timeline([[answers("fine"), curious]])))["curious"] == "unseen"


def test_a_required_result_that_is_missing_is_a_dependency_error(run: Any, flow: Any, answers: Any) -> None:
    @step
    async def last(context: Any, middle: str) -> str:
        return middle

    first, middle = answers("first"), answers("middle")

    def skips(wf: Any) -> None:
        wf.timeline(first >> middle >> last)
        wf.diverge(first, {"FIRST": skip_to(last)})

    message = "Step 'last' cannot resolve dependency 'middle': it did not run"
    with pytest.raises(DependencyError, match=message):
        run(flow(skips))

    broken = answers("middle", ValueError("no"))

    def fails(wf: Any) -> None:
        wf.timeline(first >> broken >> last)
        wf.diverge(broken, {"error": answers("instead")})

    with pytest.raises(DependencyError, match="'middle': it failed, and a rule took over"):
        run(flow(fails))


def test_a_workflow_with_problems_does_not_start(run: Any, flow: Any, answers: Any, host: Any) -> None:
    def body(wf: Any) -> None:
        wf.timeline(answers("first"))
        wf.diverge("frist", {"error": fail("no")})

    with pytest.raises(WorkflowDefinitionError, match="Did you mean 'first'"):
        run(flow(body))
    assert host.calls == []


def test_a_cancelled_timeline_cancels_its_groups_and_waits_for_them(host: Any, flow: Any) -> None:
    from cerebelum._host import enter

    ended = []
    begun = asyncio.Semaphore(0)

    def waiting(name: str) -> Any:
        async def body(context: Any) -> None:
            begun.release()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return step(name=name)(body)

    workflow = flow(lambda wf: wf.timeline([[waiting("one"), waiting("two")]]))

    async def scoped() -> None:
        enter(host)
        running = asyncio.create_task(workflow.run("null"))
        await begun.acquire()
        await begun.acquire()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended == ["one", "two"]

    asyncio.run(scoped())
