"""A timeline and its rules as data, and when the pattern of a rule matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..errors import StepError
from ..steps import AnyStep
from .actions import Action
from .compose import StepComposition

Target: TypeAlias = StepComposition | Action

OK, ERROR, ANY = "ok", "error", "_"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step: a value, decoded from JSON, or an error."""

    value: Any = None
    error: StepError | None = None


@dataclass(frozen=True)
class PatternMatch:
    """One line of a diverge."""

    pattern: Any
    target: Target

    @property
    def can_match_ok(self) -> bool:
        """Whether it is about values."""
        return bool(self.pattern != ERROR)

    @property
    def can_match_error(self) -> bool:
        """Whether it is about errors; of the exact ones, only strings are."""
        return isinstance(self.pattern, str) and self.pattern != OK

    def matches(self, outcome: Outcome) -> bool:
        """Whether this line matches the outcome of the step."""
        if self.pattern == ANY:
            return True
        if self.pattern in (OK, ERROR):
            return bool(self.pattern == (OK if outcome.error is None else ERROR))
        if outcome.error is not None:
            return bool(self.pattern == error_text(outcome.error))
        return is_same(self.pattern, outcome.value)


@dataclass(frozen=True)
class DivergeRule:
    """A `wf.diverge`: where to go after a step, by its outcome."""

    from_step: str
    patterns: tuple[PatternMatch, ...]
    place: str = ""

    def __str__(self) -> str:
        return f"diverge from '{self.from_step}'"

    def targets(self) -> Iterator[Target]:
        """Where it may lead."""
        return (line.target for line in self.patterns)


@dataclass(frozen=True)
class BranchRule:
    """A `wf.branch`: one way or the other after a step."""

    from_step: str
    condition: Callable[[Any], Any]
    when_true: Target | None
    when_false: Target | None
    place: str = ""

    def __str__(self) -> str:
        return f"branch after '{self.from_step}'"

    def targets(self) -> Iterator[Target]:
        """Where it may lead."""
        return (side for side in (self.when_true, self.when_false) if side is not None)


@dataclass(frozen=True)
class Definition:
    """A timeline with its rules."""

    name: str
    timeline: StepComposition | None
    diverges: Mapping[str, DivergeRule] = field(default_factory=dict)
    branches: Mapping[str, BranchRule] = field(default_factory=dict)

    @property
    def rules(self) -> list[DivergeRule | BranchRule]:
        """All rules."""
        return [*self.diverges.values(), *self.branches.values()]

    def all_steps(self) -> Iterator[AnyStep]:
        """All steps, those of the timeline first; one that stands at several places comes several times."""
        if self.timeline is not None:
            yield from self.timeline.steps()
        for rule in self.rules:
            for target in rule.targets():
                if isinstance(target, StepComposition):
                    yield from target.steps()

    def sides(self) -> frozenset[str]:
        """The steps of the sides of branches: a branch alone decides whether they run, wherever else they stand."""
        return frozenset(
            step.name
            for branch in self.branches.values()
            for side in branch.targets()
            if isinstance(side, StepComposition)
            for step in side.steps()
        )


def titled(rule: DivergeRule | BranchRule) -> str:
    """What a rule is called at the beginning of a line."""
    text = str(rule)
    return text[0].upper() + text[1:]


def error_text(error: StepError) -> str:
    """What a string pattern is compared with."""
    return error.error if isinstance(error.error, str) else error.message


def is_same(pattern: Any, value: Any) -> bool:
    """Whether two JSON values are the same; true is not 1, though Python says so."""
    if isinstance(pattern, bool) or isinstance(value, bool):
        return pattern is value
    return bool(pattern == value)
