"""Durable workflows as ordinary async Python functions."""

from typing import TYPE_CHECKING

from . import http
from ._host import RetryPolicy
from .calls import call_step, continue_as_new, run_workflow, start_workflow
from .context import Context
from .errors import (
    ApprovalRejected,
    ApprovalTimeout,
    CerebelumError,
    ExecutionError,
    Failure,
    PollTimeout,
    SignalTimeout,
    StepError,
)
from .polls import not_yet, poll, ready
from .registry import component
from .retries import retry
from .steps import step
from .waits import Approved, approval, sleep, wait_for_signal
from .workflows import workflow

# Programs of the original Cerebelum import these from here. They are loaded when they are asked for: some need grpcio,
# and new programs need none of them.
if TYPE_CHECKING:
    from .compat import ApprovalInfo as ApprovalInfo
    from .compat import BranchRule as BranchRule
    from .compat import DependencyError as DependencyError
    from .compat import DependencyGraph as DependencyGraph
    from .compat import DistributedExecutor as DistributedExecutor
    from .compat import DivergeRule as DivergeRule
    from .compat import ExecutionClient as ExecutionClient
    from .compat import ExecutionResult as ExecutionResult
    from .compat import ExecutionState as ExecutionState
    from .compat import ExecutionStatus as ExecutionStatus
    from .compat import ParallelStepGroup as ParallelStepGroup
    from .compat import PatternMatch as PatternMatch
    from .compat import ProgressReporter as ProgressReporter
    from .compat import SerializationError as SerializationError
    from .compat import SleepInfo as SleepInfo
    from .compat import Step as Step
    from .compat import StepComposition as StepComposition
    from .compat import StepDefinitionError as StepDefinitionError
    from .compat import StepStatus as StepStatus
    from .compat import ValidationError as ValidationError
    from .compat import ValidationReport as ValidationReport
    from .compat import Worker as Worker
    from .compat import Workflow as Workflow
    from .compat import WorkflowBuilder as WorkflowBuilder
    from .compat import WorkflowDefinition as WorkflowDefinition
    from .compat import WorkflowDefinitionError as WorkflowDefinitionError
    from .compat import back_to as back_to
    from .compat import end as end
    from .compat import fail as fail
    from .compat import skip_to as skip_to
    from .compat import wait_for_approval as wait_for_approval
else:
    _COMPAT = {
        "ApprovalInfo",
        "BranchRule",
        "DependencyError",
        "DependencyGraph",
        "DistributedExecutor",
        "DivergeRule",
        "ExecutionClient",
        "ExecutionResult",
        "ExecutionState",
        "ExecutionStatus",
        "ParallelStepGroup",
        "PatternMatch",
        "ProgressReporter",
        "SerializationError",
        "SleepInfo",
        "Step",
        "StepComposition",
        "StepDefinitionError",
        "StepStatus",
        "ValidationError",
        "ValidationReport",
        "Worker",
        "Workflow",
        "WorkflowBuilder",
        "WorkflowDefinition",
        "WorkflowDefinitionError",
        "back_to",
        "end",
        "fail",
        "skip_to",
        "wait_for_approval",
    }

    def __getattr__(name: str) -> object:
        if name in _COMPAT:
            from . import compat

            return getattr(compat, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"

__all__ = [
    "ApprovalRejected",
    "ApprovalTimeout",
    "Approved",
    "CerebelumError",
    "Context",
    "ExecutionError",
    "Failure",
    "PollTimeout",
    "RetryPolicy",
    "SignalTimeout",
    "StepError",
    "approval",
    "call_step",
    "component",
    "continue_as_new",
    "http",
    "not_yet",
    "poll",
    "ready",
    "retry",
    "run_workflow",
    "sleep",
    "start_workflow",
    "step",
    "wait_for_signal",
    "workflow",
]
