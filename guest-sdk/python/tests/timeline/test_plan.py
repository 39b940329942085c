"""The plan of a timeline, which stands in the schema of its input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cerebelum import Context, retry, workflow
from cerebelum._schema import of_workflow
from cerebelum.timeline import back_to, end, fail, skip_to
from cerebelum.timeline.plan import BYTES_MAX, ENTRIES_MAX


def planned(flow: Any) -> Any:
    """What the engine is told; None for no schema."""
    takes, gives = of_workflow(flow)
    assert gives is None
    return None if takes is None else json.loads(takes)["x-cerebelum-plan"]


def test_steps_and_groups_stand_in_the_plan_as_they_are_written(flow: Any, answers: Any) -> None:
    a, b, c, d, e = (answers(name) for name in "abcde")
    assert planned(flow(lambda wf: wf.timeline(a))) == {"steps": ["a"], "rules": {}}
    made = planned(flow(lambda wf: wf.timeline([a, b, [c, d]]).timeline(e)))
    assert made["steps"] == ["a", "b", [["c"], ["d"]], "e"]
    assert planned(flow(lambda wf: wf.timeline(a >> [b, c >> [d, e]])))["steps"] == [
        "a",
        [["b"], ["c", [["d"], ["e"]]]],
    ]


def test_the_ways_after_a_step_stand_in_the_order_in_which_they_are_tried(flow: Any, answers: Any) -> None:
    a, b, c, d, e, f, g = (answers(name) for name in "abcdefg")

    def body(wf: Any) -> None:
        wf.timeline(a >> b >> c)
        patterns = {
            7: retry(3),
            None: e >> [f, g],
            "busy": back_to(a),
            "done": skip_to(c),
            "error": fail("no"),
            "_": end(),
        }
        wf.diverge(b, patterns)
        wf.branch(b, bool, when_false=d)
        wf.diverge(d, {"ok": end()})

    assert planned(flow(body))["rules"] == {
        "b": [
            {"when": {"is": 7}, "then": {"retry": 3}},
            {"when": {"is": None}, "then": ["e", [["f"], ["g"]]]},
            {"when": {"is": "busy"}, "then": {"back-to": "a"}},
            {"when": {"is": "done"}, "then": {"skip-to": "c"}},
            {"when": "failed", "then": "fail"},
            {"when": "ended", "then": "end"},
            {"when": False, "then": ["d"]},
        ],
        "d": [{"when": "returned", "then": "end"}],
    }


@pytest.mark.parametrize("pattern", [float("nan"), float("inf"), 10**400, "\ud800"])
def test_a_value_that_no_engine_can_read_does_not_stand_in_a_plan(flow: Any, answers: Any, pattern: Any) -> None:
    a = answers("a")

    def body(wf: Any) -> None:
        wf.timeline(a)
        wf.diverge(a, {pattern: end(), "x": end()})

    assert planned(flow(body))["rules"] == {"a": [{"when": {"is": "x"}, "then": "end"}]}


def test_a_plan_that_the_engine_would_not_draw_is_left_out(flow: Any, answers: Any) -> None:
    def of(names: list[str]) -> Any:
        return planned(flow(lambda wf: wf.timeline([answers(name) for name in names])))

    assert len(of([f"s{number}" for number in range(ENTRIES_MAX)])["steps"]) == ENTRIES_MAX
    assert of([f"s{number}" for number in range(ENTRIES_MAX + 1)]) is None
    assert of([f"{number:0200}" for number in range(BYTES_MAX // 200)]) is None

    def nested(depth: int) -> Any:
        line = answers("inner")
        for _ in range(depth):
            line = [line]
        return planned(flow(lambda wf: wf.timeline(answers("a") >> line)))

    assert nested(16) is not None
    assert nested(17) is None


def test_only_a_timeline_without_problems_has_a_plan(flow: Any, answers: Any) -> None:
    @workflow
    async def plain(context: Context, order: Any) -> None: ...

    assert of_workflow(plain)[0] is None
    assert planned(flow(lambda wf: None)) is None
    assert planned(flow(lambda wf: wf.timeline(answers("a") >> 3))) is None


def test_a_plan_and_the_limit_of_clean_up_stand_beside_each_other(flow: Any, answers: Any) -> None:
    made = flow(lambda wf: wf.timeline(answers("a")))
    made.cancel_grace_ms = 5
    keywords = {"x-cerebelum-cancel-grace-ms": 5, "x-cerebelum-plan": {"steps": ["a"], "rules": {}}}
    assert json.loads(of_workflow(made)[0] or "") == keywords
