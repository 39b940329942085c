"""The plan of a timeline: its steps and rules as JSON, for those who look at an execution. The engine draws it.

{"steps": ["fetch_user", [["make_account"], ["order_badge", "post_badge"]], "report"],
 "rules": {"fetch_user": [{"when": {"is": "unknown"}, "then": "end"}]}}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from ..steps import Step
from .actions import BackTo, Fail, RetryAction, SkipTo
from .compose import StepComposition
from .rules import ANY, ERROR, OK, Definition, Target

# The limits of the engine: a longer or deeper plan is not drawn.
ENTRIES_MAX = 500
DEPTH_MAX = 16
# A schema has its own limit, which a plan must not come near.
BYTES_MAX = 16 * 1024

WORDS = {OK: "returned", ERROR: "failed", ANY: "ended"}


def plan_of(definition: Definition) -> dict[str, Any] | None:
    """The plan of a definition; None where it has no steps, or more than the engine draws."""
    if definition.timeline is None:
        return None
    rules = {source: list(_ways(definition, source)) for source in [*definition.diverges, *definition.branches]}
    steps = _line(definition.timeline)
    plan = {"steps": steps, "rules": rules}
    lines: list[list[Any]] = [
        steps,
        *(way["then"] for ways in rules.values() for way in ways if isinstance(way["then"], list)),
    ]
    entries = sum(map(_entries, lines)) + sum(map(len, rules.values()))
    is_drawn = entries <= ENTRIES_MAX and max(map(_depth, lines)) <= DEPTH_MAX
    return plan if is_drawn and len(json.dumps(plan)) <= BYTES_MAX else None


def _line(line: StepComposition) -> list[Any]:
    return [item.name if isinstance(item, Step) else [_line(branch) for branch in item.branches] for item in line.items]


def _ways(definition: Definition, source: str) -> Iterator[dict[str, Any]]:
    """Where the rules after a step may lead, in the order in which they are tried."""
    diverge, branch = definition.diverges.get(source), definition.branches.get(source)
    for line in diverge.patterns if diverge is not None else ():
        pattern = line.pattern
        if not _is_readable(pattern):
            continue
        word = WORDS.get(pattern) if isinstance(pattern, str) else None
        yield {"when": word or {"is": pattern}, "then": _then(line.target)}
    if branch is not None:
        for holds, side in ((True, branch.when_true), (False, branch.when_false)):
            if side is not None:
                yield {"when": holds, "then": _then(side)}


def _is_readable(pattern: Any) -> bool:
    """Whether an engine can read this value; otherwise it would refuse the whole schema."""
    if isinstance(pattern, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in pattern)
    return pattern is None or abs(pattern) <= sys.float_info.max


def _then(target: Target) -> Any:
    if isinstance(target, StepComposition):
        return _line(target)
    if isinstance(target, RetryAction):
        return {"retry": target.times}
    if isinstance(target, BackTo):
        return {"back-to": target.step}
    if isinstance(target, SkipTo):
        return {"skip-to": target.step}
    return "fail" if isinstance(target, Fail) else "end"


def _entries(line: list[Any]) -> int:
    return sum(1 if isinstance(entry, str) else 1 + sum(map(_entries, entry)) for entry in line)


def _depth(line: list[Any]) -> int:
    return max(0 if isinstance(entry, str) else 1 + max(map(_depth, entry)) for entry in line)
