"""Durable workflows as ordinary async Python functions."""

from typing import TYPE_CHECKING

from ._host import RetryPolicy
from .calls import call_step, continue_as_new, run_workflow, start_workflow
from .context import Context
from .dsl import (
    BranchRule,
    DependencyGraph,
    DivergeRule,
    ParallelStepGroup,
    PatternMatch,
    StepComposition,
    ValidationReport,
    WorkflowBuilder,
    back_to,
    end,
    fail,
    skip_to,
)
from .dsl import Definition as WorkflowDefinition
from .errors import (
    ApprovalRejected,
    ApprovalTimeout,
    CerebelumError,
    ContextError,
    DependencyError,
    ExecutionError,
    Failure,
    PollTimeout,
    SerializationError,
    StepDefinitionError,
    StepError,
    ValidationError,
    WorkflowDefinitionError,
)
from .polls import not_yet, poll, ready
from .progress import ProgressReporter
from .registry import component
from .results import ExecutionResult
from .retries import retry
from .steps import Step, step
from .waits import Approved, approval, sleep, wait_for_approval, wait_for_signal
from .workflows import Workflow, workflow

if TYPE_CHECKING:
    from .client import ApprovalInfo as ApprovalInfo
    from .client import DistributedExecutor as DistributedExecutor
    from .client import ExecutionClient as ExecutionClient
    from .client import ExecutionState as ExecutionState
    from .client import ExecutionStatus as ExecutionStatus
    from .client import SleepInfo as SleepInfo
    from .client import StepStatus as StepStatus
    from .client import Worker as Worker

__version__ = "0.1.0"

# Programs that talk to an engine need grpcio; all others do without. Not in `__all__` for the same reason:
# `from cerebelum import *` must do without.
_OF_CLIENT = {
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
    if name in _OF_CLIENT:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module 'cerebelum' has no attribute '{name}'")


__all__ = [
    "ApprovalRejected",
    "ApprovalTimeout",
    "Approved",
    "BranchRule",
    "CerebelumError",
    "Context",
    "ContextError",
    "DependencyError",
    "DependencyGraph",
    "DivergeRule",
    "ExecutionError",
    "ExecutionResult",
    "Failure",
    "ParallelStepGroup",
    "PatternMatch",
    "PollTimeout",
    "ProgressReporter",
    "RetryPolicy",
    "SerializationError",
    "Step",
    "StepComposition",
    "StepDefinitionError",
    "StepError",
    "ValidationError",
    "ValidationReport",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowDefinition",
    "WorkflowDefinitionError",
    "approval",
    "back_to",
    "call_step",
    "component",
    "continue_as_new",
    "end",
    "fail",
    "not_yet",
    "poll",
    "ready",
    "retry",
    "run_workflow",
    "skip_to",
    "sleep",
    "start_workflow",
    "step",
    "wait_for_approval",
    "wait_for_signal",
    "workflow",
]
