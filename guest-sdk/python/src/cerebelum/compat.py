"""Names that programs of the original Cerebelum import; `from cerebelum import …` finds each of them as well.

New programs need none of them. Timelines are in `cerebelum.timeline`, exceptions in `cerebelum.errors`, and the client
is `cerebelum.client`.
"""

from typing import TYPE_CHECKING

from .errors import (
    DependencyError,
    SerializationError,
    StepDefinitionError,
    ValidationError,
    WorkflowDefinitionError,
)
from .progress import ProgressReporter
from .results import ExecutionResult
from .steps import Step
from .timeline import (
    DependencyGraph,
    ParallelStepGroup,
    StepComposition,
    ValidationReport,
    Workflow,
    WorkflowBuilder,
    back_to,
    end,
    fail,
    skip_to,
)
from .timeline.rules import BranchRule, DivergeRule, PatternMatch
from .timeline.rules import Definition as WorkflowDefinition
from .waits import wait_for_approval

# Not in `__all__`: the client needs grpcio, and `from cerebelum.compat import *` must not.
if TYPE_CHECKING:
    from .client import ApprovalInfo as ApprovalInfo
    from .client import DistributedExecutor as DistributedExecutor
    from .client import ExecutionClient as ExecutionClient
    from .client import ExecutionState as ExecutionState
    from .client import ExecutionStatus as ExecutionStatus
    from .client import SleepInfo as SleepInfo
    from .client import StepStatus as StepStatus
    from .client import Worker as Worker
else:
    _CLIENT = {
        "ApprovalInfo",
        "DistributedExecutor",
        "ExecutionClient",
        "ExecutionState",
        "ExecutionStatus",
        "SleepInfo",
        "StepStatus",
        "Worker",
    }

    def __getattr__(name: str) -> object:
        if name in _CLIENT:
            from . import client

            return getattr(client, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BranchRule",
    "DependencyError",
    "DependencyGraph",
    "DivergeRule",
    "ExecutionResult",
    "ParallelStepGroup",
    "PatternMatch",
    "ProgressReporter",
    "SerializationError",
    "Step",
    "StepComposition",
    "StepDefinitionError",
    "ValidationError",
    "ValidationReport",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowDefinition",
    "WorkflowDefinitionError",
    "back_to",
    "end",
    "fail",
    "skip_to",
    "wait_for_approval",
]
