"""The checks of a timeline and its rules, before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..registry import place_of, registry
from ..steps import AnyStep
from .actions import BackTo, SkipTo
from .compose import ParallelStepGroup, StepComposition
from .flow import Flow, never_run
from .graph import DependencyGraph, ring_text
from .rules import ANY, ERROR, OK, BranchRule, Definition, DivergeRule, titled

INPUTS = "inputs"
# Names of parameters that do not mean the result of a step.
TAKEN_NAMES = (INPUTS, "context", "ctx")


@dataclass
class Problems:
    """Errors keep a workflow from running; warnings do not."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Needs:
    """Whose results a step asks for, by the names of its parameters."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def problems_of(definition: Definition) -> Problems:
    """All problems of a definition at once."""
    found = Problems()
    if definition.timeline is None:
        found.errors.append(
            f"Workflow '{definition.name}' has empty timeline. Use wf.timeline() to define at least one step."
        )
        return found
    steps: dict[str, AnyStep] = {}
    for step in definition.all_steps():
        steps.setdefault(step.name, step)
    found.errors += [*_doubles(definition, definition.timeline), *_bad_names(steps)]
    found.errors += _rule_problems(definition, steps)
    needs = {name: _needs_of(step, found) for name, step in steps.items()}
    in_rings = _dependency_problems(needs, found)
    flow = Flow(definition)
    found.errors += flow.problems
    found.errors += _order_problems(definition, flow, needs, in_rings, found)
    found.errors += [
        f"Step '{name}' can never run: every way through the timeline ends before it or passes it by"
        for name in never_run(definition, flow)
    ]
    if not any(INPUTS in (*need.required, *need.optional) for need in needs.values()):
        found.warnings.append("No step takes 'inputs': what the workflow is given is not used")
    return found


def close_to(name: str, known: Iterable[str]) -> str:
    """The question whether a similar name was meant, with a leading space."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _doubles(definition: Definition, timeline: StepComposition) -> list[str]:
    problems: dict[str, None] = {}
    lines = [("the timeline", timeline)]
    lines += [
        (f"a target of the {rule}", target)
        for rule in definition.rules
        for target in rule.targets()
        if isinstance(target, StepComposition)
    ]
    for where, line in lines:
        names = [step.name for step in line.steps()]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            problems[f"Step '{name}' stands {names.count(name)} times in {where}; each step stands there once"] = None
    first: dict[str, AnyStep] = {}
    for step in definition.all_steps():
        known = first.setdefault(step.name, step)
        if known.function is not step.function:
            places = f"{place_of(known.function)} and {place_of(step.function)}"
            problems[f"Two different steps are called '{step.name}': {places}"] = None
    return list(problems)


def _bad_names(steps: Iterable[str]) -> list[str]:
    return [
        f"A step cannot be called '{name}': as a parameter, that name means something else"
        for name in steps
        if name in TAKEN_NAMES
    ]


def _rule_problems(definition: Definition, steps: dict[str, AnyStep]) -> list[str]:
    problems: list[str] = []
    for rule in definition.rules:
        if rule.from_step not in steps:
            problems.append(f"{titled(rule)}: {_no_such_step(rule.from_step, steps)}")
        problems += [
            f"{titled(rule)}: {target} jumps to a step that does not exist: {_no_such_step(target.step, steps)}"
            for target in rule.targets()
            if isinstance(target, (BackTo, SkipTo)) and target.step not in steps
        ]
        if isinstance(rule, DivergeRule):
            problems += _dead_patterns(rule)
    return problems


def _dead_patterns(rule: DivergeRule) -> list[str]:
    problems: list[str] = []
    is_ok_open = is_error_open = True
    for line in rule.patterns:
        if not ((is_ok_open and line.can_match_ok) or (is_error_open and line.can_match_error)):
            problems.append(
                f"{titled(rule)}: the pattern {line.pattern!r} can never match, earlier ones match all that it could"
            )
        is_ok_open = is_ok_open and line.pattern not in (OK, ANY)
        is_error_open = is_error_open and line.pattern not in (ERROR, ANY)
    return problems


def _needs_of(step: AnyStep, found: Problems) -> Needs:
    try:
        parameters = step.signature.parameters
    except (NameError, TypeError) as error:
        found.errors.append(f"Step '{step.name}': its type hints cannot be read: {error}")
        return Needs()
    return Needs(
        tuple(p.name for p in parameters if p.required),
        tuple(p.name for p in parameters if not p.required),
    )


def _dependency_problems(needs: dict[str, Needs], found: Problems) -> set[frozenset[str]]:
    """Missing dependencies, and cycles; returns the pairs that a cycle explains."""
    graph = DependencyGraph()
    for name, need in needs.items():
        graph.add_step(name, need.required)
        found.errors += [
            f"Step '{name}' depends on '{missing}' which does not exist. Available steps: {list(needs)}"
            + close_to(missing, (INPUTS, *needs))
            for missing in need.required
            if missing not in needs and missing != INPUTS
        ]
        found.warnings += [
            f"Step '{name}' takes '{missing}', which is not a step: it always gets its default.{close}"
            for missing in need.optional
            # A step of another timeline of this program is meant as it is written.
            if missing not in (INPUTS, *needs, *registry.steps) and (close := close_to(missing, (INPUTS, *needs)))
        ]
    pairs: set[frozenset[str]] = set()
    for ring in graph.detect_cycles():
        found.errors.append(
            f"Circular dependency detected: {ring_text(ring)}. "
            "Take one of these parameters away, or give it a default and let its step run later"
        )
        pairs.update(frozenset(pair) for pair in zip(ring, [*ring[1:], ring[0]], strict=True))
    return pairs


def _order_problems(
    definition: Definition, flow: Flow, needs: dict[str, Needs], in_rings: set[frozenset[str]], found: Problems
) -> list[str]:
    problems: list[str] = []
    for name, before in flow.before.items():
        for needed in needs[name].required:
            if needed == INPUTS or needed not in needs or frozenset((name, needed)) in in_rings:
                continue
            if needed not in before.may:
                problems.append(
                    f"Step '{name}' depends on '{needed}', which {_why_not_before(definition, name, needed)}"
                )
            elif needed not in before.must:
                found.warnings.append(
                    f"Step '{name}' needs '{needed}', which has no result on every way that leads to it; on such a way "
                    f"the execution fails. Give the parameter a default when that is not wanted: {needed}=None"
                )
    return problems


def _why_not_before(definition: Definition, name: str, needed: str) -> str:
    lines = [definition.timeline] if definition.timeline is not None else []
    lines += [target for rule in definition.rules for target in rule.targets() if isinstance(target, StepComposition)]
    if any(_are_parallel(line, name, needed) for line in lines):
        return "runs in the same parallel group: neither waits for the other. Move it in front of the group"
    for line in lines:
        names = [step.name for step in line.steps()]
        if name in names and needed in names[names.index(name) :] and needed not in definition.sides():
            return "runs later. Let it stand before"
    where = [str(rule) for rule in definition.rules if _leads_to(rule, needed)]
    if where:
        return f"only runs on another way, in a target of the {' and of the '.join(where)}"
    return "no way runs before it"


def _leads_to(rule: DivergeRule | BranchRule, name: str) -> bool:
    return any(
        step.name == name for target in rule.targets() if isinstance(target, StepComposition) for step in target.steps()
    )


def _are_parallel(line: StepComposition, one: str, other: str) -> bool:
    return any(isinstance(item, ParallelStepGroup) and _are_in(item, one, other) for item in line.items)


def _are_in(group: ParallelStepGroup, one: str, other: str) -> bool:
    def at(name: str) -> int | None:
        branches = enumerate(group.branches)
        return next((at for at, branch in branches if any(step.name == name for step in branch.steps())), None)

    first, second = at(one), at(other)
    if first is None or second is None:
        return False
    return first != second or _are_parallel(group.branches[first], one, other)


def _no_such_step(name: str, steps: Iterable[str]) -> str:
    names = list(steps)
    known = f"Available steps: {names}{close_to(name, names)}"
    return f"'{name}' stands neither in the timeline nor in a rule's target. {known}"
