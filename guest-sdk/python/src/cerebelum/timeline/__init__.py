"""The timeline form of a workflow: steps joined with `>>`, and rules about where to go after them.

@workflow
def onboarding(wf: WorkflowBuilder) -> None:
    wf.timeline(fetch_user >> [make_account, order_badge] >> report)
    wf.diverge(fetch_user, {"unknown": end()})
"""

from ..workflows import Workflow

# The interpreter is loaded here too: a component then holds it in memory and need not import it in every execution.
from . import interpret as interpret
from .actions import back_to, end, fail, skip_to
from .builder import WorkflowBuilder
from .compose import ParallelStepGroup, StepComposition
from .graph import DependencyGraph
from .validate import ValidationReport

__all__ = [
    "DependencyGraph",
    "ParallelStepGroup",
    "StepComposition",
    "ValidationReport",
    "Workflow",
    "WorkflowBuilder",
    "back_to",
    "end",
    "fail",
    "skip_to",
]
