"""The timeline form of a workflow: steps composed with `>>`, and rules about where it goes."""

# All of it is loaded here: a component is frozen after its imports, and nothing can be imported later.
from . import interpret as interpret
from .actions import back_to, end, fail, skip_to
from .builder import Definition, WorkflowBuilder
from .compose import ParallelStepGroup, StepComposition
from .graph import DependencyGraph
from .rules import BranchRule, DivergeRule, PatternMatch
from .validate import ValidationReport

__all__ = [
    "BranchRule",
    "Definition",
    "DependencyGraph",
    "DivergeRule",
    "ParallelStepGroup",
    "PatternMatch",
    "StepComposition",
    "ValidationReport",
    "WorkflowBuilder",
    "back_to",
    "end",
    "fail",
    "skip_to",
]
