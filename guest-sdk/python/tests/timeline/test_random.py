"""Random timelines with random rules: what validation promises holds when they run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from fake_host import FakeHost

from cerebelum import Failure, retry, step
from cerebelum._host import enter
from cerebelum.errors import DependencyError, WorkflowDefinitionError
from cerebelum.timeline import Workflow, back_to, end, fail, skip_to
from cerebelum.timeline.flow import Flow

NAMES = "abcdefgh"
ANSWERS: list[Any] = [*["x"] * 6, *["y"] * 4, {"error": "no"}, {"error": "x"}]


class Author:
    """Writes a workflow; most of what it writes makes sense."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.answers = random.Random(seed + 1)
        self.steps = {name: self.step(name) for name in NAMES}

    def step(self, name: str) -> Any:
        needs = [other for other in NAMES if other != name and self.random.random() < 0.06]
        parameters = "".join(f", {need}{self.random.choice(['', '=None'])}" for need in needs) or ", inputs"
        space: dict[str, Any] = {"answer": self.answer}
        # After the star, one with a default may stand before one without.
        exec(f"async def {name}(context, *{parameters}): return answer()", space)
        return step(space[name])

    def answer(self) -> Any:
        return self.answers.choice(ANSWERS)

    def line(self, names: list[str]) -> Any:
        """Some of these in order, some at the same time."""
        parts: list[Any] = []
        left = list(names)
        while left:
            some = [left.pop(0) for _ in range(min(len(left), self.random.choice([1, 1, 1, 2, 3])))]
            parts.append(self.steps[some[0]] if len(some) == 1 else [self.member(name, left) for name in some])
        return parts

    def member(self, name: str, left: list[str]) -> Any:
        return self.steps[name] >> self.steps[left.pop(0)] if left and self.random.random() < 0.3 else self.steps[name]

    def target(self, at: int, order: list[str], others: list[str]) -> Any:
        """Where a rule for the step at this place may lead; groups make some of it wrong."""
        choices: list[Any] = [retry(2), fail("x"), end(), back_to(self.random.choice(order[: at + 1]))]
        if order[at + 1 :]:
            later = self.random.choice(order[at + 1 :])
            choices += [skip_to(later), self.steps[later]]
        choices += [self.steps[other] for other in others]
        return self.random.choice(choices)

    def write(self, wf: Any) -> None:
        names = self.random.sample(NAMES, len(NAMES))
        order, others = names[:5], names[5:]
        wf.timeline(self.line(order))
        for source in self.random.sample(range(5), 2):
            patterns = self.random.sample(["x", "y", "error", "no", "ok", "_"], self.random.randint(1, 2))
            wf.diverge(order[source], {pattern: self.target(source, order, others) for pattern in patterns})
        after = self.random.randrange(5)
        if self.random.random() < 0.5:
            sides = [self.target(after, order, others), self.random.choice([None, self.target(after, order, others)])]
            wf.branch(order[after], lambda value: value == "x", *sides)


def runs(workflow: Workflow) -> tuple[list[Any], str]:
    """What was called, and how it ended."""
    host = FakeHost()

    async def scoped() -> str:
        enter(host)  # type: ignore[arg-type]
        return await workflow.run("null")

    try:
        ended = asyncio.run(scoped())
    except DependencyError as error:
        ended = f"dependency {error}"
    except Failure as failure:
        ended = f"failure {failure}"
    return host.calls, ended


def test_what_validation_promises_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cerebelum.timeline.interpret.BACK_JUMPS_MAX", 20)
    counts: Counter[str] = Counter()
    for seed in range(2_500):
        author = Author(seed)
        workflow = Workflow(author.write, "flow")
        try:
            definition = workflow.definition
        except WorkflowDefinitionError:
            continue
        before = Flow(definition).before
        is_doubtful = any(
            parameter.required and parameter.name not in {*known.must, "inputs"}
            for name, known in before.items()
            for parameter in author.steps[name].signature.parameters
        )
        counts["doubtful" if is_doubtful else "sound"] += 1
        for _ in range(3):
            calls, how = runs(workflow)
            assert {call for call in calls if isinstance(call, str)} <= before.keys(), f"seed {seed}: {calls}"
            assert is_doubtful or not how.startswith("dependency"), f"seed {seed}: {how}"
            counts[how.split()[0] if how.startswith(("dependency", "failure")) else "completed"] += 1
    # With fewer than these, the above would say little.
    assert counts["sound"] > 200
    assert counts["completed"] > 100
    assert counts["failure"] > 100
    assert counts["dependency"] > 10


@pytest.mark.parametrize("seed", range(40))
def test_the_same_answers_lead_the_same_way(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cerebelum.timeline.interpret.BACK_JUMPS_MAX", 20)

    def once() -> Any:
        author = Author(seed)
        workflow = Workflow(author.write, "flow")
        try:
            _ = workflow.definition
        except WorkflowDefinitionError as error:
            return str(error).splitlines()[0]
        return runs(workflow)

    assert once() == once()
