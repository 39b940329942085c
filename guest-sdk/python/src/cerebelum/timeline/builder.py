"""The builder that `def flow(wf)` receives, and the definition that it makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, TracebackType
from typing import Any, TypeAlias

from ..errors import WorkflowDefinitionError
from ..steps import AnyStep
from .actions import ACTIONS, Action, end, fail, name_of
from .checks import problems_of
from .compose import Composable, StepComposition, composition_of, is_composable
from .rules import BranchRule, Definition, DivergeRule, PatternMatch, Target

# The target of a rule, as authors write it; a list is a parallel group.
Destination: TypeAlias = "Composable | Action"

__all__ = ["Definition", "Destination", "WorkflowBuilder", "build", "draft"]


@dataclass
class Draft:
    """The definition so far, with its problems."""

    timeline: list[StepComposition] = field(default_factory=list)
    diverges: dict[str, DivergeRule] = field(default_factory=dict)
    branches: dict[str, BranchRule] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    # Whether steps may be missing because of a problem, so that further checks would mislead.
    is_torn: bool = False

    def note(self, call: str, place: str, problem: object) -> None:
        """Records a problem, so that all of them are reported at once."""
        self.problems.append(f"{call} at {place}: {problem}")

    def definition(self, name: str) -> Definition:
        """The timeline with its rules, as far as they could be understood."""
        timeline = StepComposition(self.timeline) if self.timeline else None
        return Definition(name, timeline, self.diverges, self.branches)


class WorkflowBuilder:
    """Describes a timeline of steps and where it goes: `wf.timeline(a >> [b, c] >> d)`, `wf.diverge`, `wf.branch`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def timeline(self, steps: Composable) -> WorkflowBuilder:
        """Adds to the timeline; what several calls add runs one after the other.

        Args:
            steps: a step, a composition `a >> b`, or a list. A list alone runs in order here; inside a composition, or
                inside another list, a list is a parallel group.
        """
        try:
            parts = steps if isinstance(steps, (list, tuple)) else [steps]
            if not parts:
                raise ValueError("the list of steps is empty")
            self._draft.timeline.append(StepComposition(parts))
        except (TypeError, ValueError) as problem:
            self._draft.note("wf.timeline", _place(), problem)
            self._draft.is_torn = True
        return self

    def diverge(
        self,
        from_step: AnyStep | str | None = None,
        patterns: Mapping[Any, Destination] | None = None,
        *,
        from_: AnyStep | str | None = None,
    ) -> WorkflowBuilder:
        """Says where to go after a step, by what became of it; the first pattern that matches counts.

        Args:
            from_step: the step; `from_` is the same.
            patterns: `"ok"` any value, `"error"` any error, `"_"` anything, or exactly a value (a string, a number, a
                boolean or None) or an error (a string); each with a step, a composition, a list (a parallel group) or
                one of `retry(n)`, `back_to(step)`, `skip_to(step)`, `fail(reason)`, `end()`.

        Without a match the timeline goes on, or the error fails the execution.
        """
        place = _place()
        try:
            source = name_of(from_step if from_step is not None else from_, "from_step")
            if not isinstance(patterns, Mapping) or not patterns:
                raise TypeError('patterns is a dictionary with at least one line: {"error": fail("…")}')
        except TypeError as problem:
            self._draft.note("wf.diverge", place, problem)
            return self
        call = f"wf.diverge from '{source}'"
        lines = [self._line(call, place, pattern, target) for pattern, target in patterns.items()]
        rule = DivergeRule(source, tuple(line for line in lines if line is not None), place)
        earlier = self._draft.diverges.setdefault(source, rule)
        if earlier is not rule:
            self._draft.note(
                call, place, f"the step has patterns already (at {earlier.place}): put all into one diverge"
            )
        return self

    def branch(
        self,
        after: AnyStep | str | None = None,
        condition: Callable[[Any], Any] | None = None,
        when_true: Destination | None = None,
        when_false: Destination | None = None,
        *,
        on: Callable[[Any], Any] | None = None,
    ) -> WorkflowBuilder:
        """Goes one way or the other after a step; the side not taken does not run, even if it stands in the timeline.

        Args:
            after: the step.
            condition: a function of the step's value, sync or async; `on` is the same.
            when_true: where to go when it holds, as for `diverge`.
            when_false: where to go otherwise; the timeline simply goes on when left out.
        """
        place = _place()
        predicate = condition if condition is not None else on
        try:
            source = name_of(after, "after")
            if not callable(predicate) or (condition is not None and on is not None):
                raise TypeError(f"the branch after '{source}' takes one condition, a function of the step's value")
            if when_true is None and when_false is None:
                raise TypeError(f"the branch after '{source}' leads nowhere: give it when_true or when_false")
        except TypeError as problem:
            self._draft.note("wf.branch", place, problem)
            return self
        call = f"wf.branch after '{source}'"
        sides = [
            None if side is None else self._target(call, place, name, side)
            for name, side in (("when_true", when_true), ("when_false", when_false))
        ]
        rule = BranchRule(source, predicate, sides[0], sides[1], place)
        earlier = self._draft.branches.setdefault(source, rule)
        if earlier is not rule:
            self._draft.note(call, place, f"the step has a branch already (at {earlier.place})")
        return self

    def _line(self, call: str, place: str, pattern: object, target: object) -> PatternMatch | None:
        if pattern is not None and not isinstance(pattern, (str, bool, int, float)):
            self._draft.note(
                call, place, f"the pattern {pattern!r} is neither a string nor a number, a boolean or None"
            )
            return None
        understood = self._target(call, place, repr(pattern), target)
        return None if understood is None else PatternMatch(pattern, understood)

    def _target(self, call: str, place: str, line: str, target: object) -> Target | None:
        try:
            return target_of(target)
        except (TypeError, ValueError) as problem:
            self._draft.note(call, place, f"{line}: {problem}")
            return None


def target_of(target: object) -> Target:
    """Where a rule leads, from the forms in which it may be written.

    # Raises
    TypeError or ValueError when it cannot be a target.
    """
    if isinstance(target, ACTIONS):
        return target
    if target is end or target is fail:
        name = target.__name__
        raise TypeError(f"{name} is called: write {name}()")
    if is_composable(target):
        return composition_of(target)
    try:
        return composition_of(target)
    except TypeError as problem:
        actions = "retry(n), back_to(step), skip_to(step), fail(reason), end()"
        raise TypeError(f"{problem}; a rule leads to steps or to one of {actions}") from None


def draft(function: Callable[..., Any]) -> Draft:
    """Runs the body of a workflow function; what it raises becomes a problem with its place."""
    made = Draft()
    try:
        function(WorkflowBuilder(made))
    except Exception as error:
        place = _place_in(error.__traceback__, getattr(function, "__code__", None))
        made.problems.append(f"{type(error).__name__} at {place}: {error}")
        made.is_torn = True
    return made


def build(function: Callable[..., Any], name: str) -> Definition:
    """The definition that a workflow function describes.

    # Raises
    WorkflowDefinitionError with all its problems.
    """
    made = draft(function)
    definition = made.definition(name)
    problems = [*made.problems, *([] if made.is_torn else problems_of(definition).errors)]
    if problems:
        raise WorkflowDefinitionError(name, problems)
    return definition


def _place() -> str:
    """Where the caller of a builder's method stands."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _place_in(trace: TracebackType | None, code: CodeType | None) -> str:
    """The line of the workflow function at which an exception came through."""
    place = "an unknown place"
    while trace is not None:
        here = trace.tb_frame.f_code
        if here is code or code is None:
            place = f"{here.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
