"""Programs that talk to an engine over gRPC: start workflows, follow them, answer approvals.

async with ExecutionClient("localhost:9090") as engine:
    execution = await engine.start("hello", {"name": "Ada"})
    print((await execution.result()).output)
"""

from __future__ import annotations

try:
    import google.protobuf as _protobuf  # type: ignore[import-untyped]
    import grpc.aio as _grpc  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(f"cerebelum.client is not complete ({error}): pip install grpcio protobuf") from None

from .._states import ExecutionState
from ..results import ExecutionResult, FailureInfo
from .calling import ExecutionClient
from .errors import EngineError, EngineUnreachable, InvalidRequest, NotFound, Refused
from .executor import DistributedExecutor
from .handle import ExecutionHandle
from .records import (
    ApprovalInfo,
    ComponentInfo,
    Event,
    ExecutionPage,
    ExecutionStatus,
    ExecutionSummary,
    LogLine,
    Progress,
    SleepInfo,
    StepStatus,
    WaitingOn,
)
from .worker import BuildError, Worker

del _grpc, _protobuf

__all__ = [
    "ApprovalInfo",
    "BuildError",
    "ComponentInfo",
    "DistributedExecutor",
    "EngineError",
    "EngineUnreachable",
    "Event",
    "ExecutionClient",
    "ExecutionHandle",
    "ExecutionPage",
    "ExecutionResult",
    "ExecutionState",
    "ExecutionStatus",
    "ExecutionSummary",
    "FailureInfo",
    "InvalidRequest",
    "LogLine",
    "NotFound",
    "Progress",
    "Refused",
    "SleepInfo",
    "StepStatus",
    "WaitingOn",
    "Worker",
]
