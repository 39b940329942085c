"""Follows a timeline and its rules along every way, without running anything: what has run before each step?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..steps import AnyStep, Step
from .actions import Action, BackTo, End, Jump, SkipTo
from .compose import Item, ParallelStepGroup, StepComposition, steps_of
from .rules import ANY, ERROR, OK, BranchRule, Definition, DivergeRule, Target, titled

IN_GROUP = "inside a group a rule leads to steps, retry(n), fail(reason), or to a step of the same branch of the group"


@dataclass(frozen=True)
class Known:
    """Which steps have a result: on some way, and on every way."""

    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()

    def plus(self, name: str) -> Known:
        """After this step succeeded."""
        return Known(self.may | {name}, self.must | {name})

    def minus(self, names: Iterable[str]) -> Known:
        """After the results of these steps were dropped."""
        dropped = frozenset(names)
        return Known(self.may - dropped, self.must - dropped)


def joined(states: Iterable[Known | None]) -> Known | None:
    """What is known where several ways meet; None are ways that do not lead here."""
    there = [state for state in states if state is not None]
    if not there:
        return None
    return Known(
        frozenset().union(*(state.may for state in there)), there[0].must.intersection(*(state.must for state in there))
    )


@dataclass
class Frame:
    """A line of steps on its way."""

    line: StepComposition
    parent: Frame | None
    is_branch_of_group: bool = False
    # Whether it is (part of) the timeline, and not the target of a rule.
    is_timeline: bool = False
    at: int = 0
    # What is known on arrival at each item, and at the end.
    arrivals: list[Known | None] = field(default_factory=list)

    def arrive(self, at: int, state: Known | None) -> None:
        """One more way leads to an item."""
        self.arrivals[at] = joined([self.arrivals[at], state])

    def outward(self) -> Iterator[Frame]:
        """This frame and those around it."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent


class Flow:
    """The walk along all ways. Every way that an execution can take is among them, and perhaps some more."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        # What is known before each step, wherever it runs; a step that is missing never runs.
        self.before: dict[str, Known] = {}
        # In order, each once.
        self.problems: dict[str, None] = {}
        self._sides = definition.sides()
        self._jumped_to: set[str] = set()
        # The steps whose rules are being followed.
        self._sources: list[str] = []
        if definition.timeline is not None:
            self._line(definition.timeline, Known(), Frame(definition.timeline, None, is_timeline=True))

    def _line(self, line: StepComposition, state: Known, frame: Frame) -> Known | None:
        frame.arrivals = [state, *([None] * len(line.items))]
        while True:
            # Jumps lead to items that were passed already, so that it takes several rounds.
            before = (list(frame.arrivals), len(self._jumped_to))
            for at, item in enumerate(line.items):
                frame.at = at
                arriving = frame.arrivals[at]
                if arriving is not None:
                    frame.arrive(at + 1, self._item(item, arriving, frame))
            if (frame.arrivals, len(self._jumped_to)) == before:
                return frame.arrivals[-1]

    def _item(self, item: Item, state: Known, frame: Frame) -> Known | None:
        if isinstance(item, ParallelStepGroup):
            return self._group(item, state, frame)
        if not (frame.is_timeline and item.name in self._sides):
            return self._step(item, state, frame)
        # A branch decides about it; here it only runs when a jump asks for it.
        return joined([state, self._step(item, state, frame)]) if item.name in self._jumped_to else state

    def _group(self, group: ParallelStepGroup, state: Known, frame: Frame) -> Known | None:
        outs = [
            self._line(branch, state, Frame(branch, frame, is_branch_of_group=True, is_timeline=frame.is_timeline))
            for branch in group.branches
        ]
        ended = [out for out in outs if out is not None]
        if len(ended) < len(outs):
            return None
        return Known(frozenset().union(*(out.may for out in ended)), frozenset().union(*(out.must for out in ended)))

    def _step(self, step: AnyStep, state: Known, frame: Frame) -> Known | None:
        name = step.name
        self.before[name] = joined([self.before.get(name), state]) or state
        ok, failed = self._diverge(name, state, frame)
        branch = self.definition.branches.get(name)
        if branch is not None and ok is not None:
            sides = (branch.when_true, branch.when_false)
            ok = joined([ok if side is None else self._follow(branch, side, ok, frame) for side in sides])
        return joined([ok, failed])

    def _diverge(self, name: str, state: Known, frame: Frame) -> tuple[Known | None, Known | None]:
        """What is known behind the diverge of a step: when the step succeeded, and when it failed."""
        succeeded, failed = state.plus(name), state.minus([name])
        rule = self.definition.diverges.get(name)
        if rule is None:
            return succeeded, None
        oks: list[Known | None] = []
        errors: list[Known | None] = []
        is_ok_open = is_error_open = True
        for line in rule.patterns:
            if is_ok_open and line.can_match_ok:
                oks.append(self._follow(rule, line.target, succeeded, frame))
            if is_error_open and line.can_match_error:
                errors.append(self._follow(rule, line.target, failed, frame))
            is_ok_open = is_ok_open and line.pattern not in (OK, ANY)
            is_error_open = is_error_open and line.pattern not in (ERROR, ANY)
        if is_ok_open:
            oks.append(succeeded)
        return joined(oks), joined(errors)

    def _follow(self, rule: DivergeRule | BranchRule, target: Target, state: Known, frame: Frame) -> Known | None:
        if not isinstance(target, StepComposition):
            is_sound = self._act(rule, target, state, frame)
            # What is behind an unsound action is looked at as well, instead of being called unreachable.
            return None if is_sound else state
        if self._is_misplaced(rule, target, frame):
            return state
        self._sources.append(rule.from_step)
        out = self._line(target, state, Frame(target, frame))
        self._sources.pop()
        return out

    def _is_misplaced(self, rule: DivergeRule | BranchRule, target: StepComposition, frame: Frame) -> bool:
        names = [step.name for step in target.steps()]
        round_again = next((name for name in names if name in [*self._sources, rule.from_step]), None)
        if round_again is not None:
            self._note(rule, f"its target leads to '{round_again}' again: use back_to({round_again}) or retry(n)")
            return True
        for around in frame.outward():
            passed = {step.name for item in around.line.items[: around.at + 1] for step in steps_of(item)}
            early = next((name for name in names if name in passed), None)
            if early is not None:
                self._note(
                    rule,
                    f"the target '{early}' stands in the same line, not behind '{rule.from_step}': "
                    f"use back_to({early}), or take it out there",
                )
                return True
        return False

    def _act(self, rule: DivergeRule | BranchRule, action: Action, state: Known, frame: Frame) -> bool:
        """Takes note of where an action leads; says whether it may lead there."""
        if isinstance(action, (BackTo, SkipTo)):
            return self._jump(rule, action, state, frame)
        if isinstance(action, End) and any(around.is_branch_of_group for around in frame.outward()):
            self._note(rule, f"end() would leave a parallel group; {IN_GROUP}")
            return False
        return True

    def _jump(self, rule: DivergeRule | BranchRule, jump: Jump, state: Known, frame: Frame) -> bool:
        leaves_group = False
        for around in frame.outward():
            at = around.line.entry_of(jump.step)
            if at is not None:
                break
            leaves_group = leaves_group or around.is_branch_of_group
        else:
            self._note_no_target(rule, jump)
            return False
        if leaves_group:
            self._note(rule, f"{jump} would leave a parallel group; {IN_GROUP}")
            return False
        if isinstance(jump, BackTo) and at > around.at:
            self._note(rule, f"{jump} goes back, but '{jump.step}' comes later: use skip_to({jump.step})")
            return False
        if isinstance(jump, SkipTo) and at <= around.at:
            self._note(rule, f"{jump} goes forward, but '{jump.step}' does not come later: use back_to({jump.step})")
            return False
        self._jumped_to.add(jump.step)
        if isinstance(jump, BackTo):
            state = state.minus(step.name for item in around.line.items[at:] for step in steps_of(item))
        around.arrive(at, state)
        return True

    def _note_no_target(self, rule: DivergeRule | BranchRule, jump: Jump) -> None:
        timeline = self.definition.timeline
        if timeline is not None and any(step.name == jump.step for step in timeline.steps()):
            self._note(
                rule,
                f"{jump} would land in the middle of a parallel group; "
                "a jump leads to a step with which a branch of the group begins, and starts the whole group",
            )
        elif any(step.name == jump.step for step in self.definition.all_steps()):
            self._note(rule, f"{jump} leads into the target of another rule; a jump leads to a step of the timeline")

    def _note(self, rule: DivergeRule | BranchRule, problem: str) -> None:
        self.problems[f"{titled(rule)}: {problem}"] = None


def never_run(definition: Definition, flow: Flow) -> list[str]:
    """The steps of the timeline that no way leads to; those that a branch decides about are its own affair."""
    if definition.timeline is None:
        return []
    sides = definition.sides()
    return [
        item.name
        for item in definition.timeline.steps()
        if isinstance(item, Step) and item.name not in flow.before and item.name not in sides
    ]
