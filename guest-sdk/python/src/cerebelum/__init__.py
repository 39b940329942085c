"""Durable workflows as ordinary async Python functions."""

from ._host import RetryPolicy
from .calls import call_step, continue_as_new, run_workflow, start_workflow
from .context import Context
from .errors import (
    ApprovalRejected,
    ApprovalTimeout,
    CerebelumError,
    DependencyError,
    ExecutionError,
    Failure,
    OutsideError,
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

__version__ = "0.1.0"

__all__ = [
    "ApprovalRejected",
    "ApprovalTimeout",
    "Approved",
    "CerebelumError",
    "Context",
    "DependencyError",
    "ExecutionError",
    "ExecutionResult",
    "Failure",
    "OutsideError",
    "PollTimeout",
    "ProgressReporter",
    "RetryPolicy",
    "SerializationError",
    "Step",
    "StepDefinitionError",
    "StepError",
    "ValidationError",
    "Workflow",
    "WorkflowDefinitionError",
    "approval",
    "call_step",
    "component",
    "continue_as_new",
    "not_yet",
    "poll",
    "ready",
    "retry",
    "run_workflow",
    "sleep",
    "start_workflow",
    "step",
    "wait_for_approval",
    "wait_for_signal",
    "workflow",
]
