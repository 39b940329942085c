"""A tiny host for timelines: steps run in line, once, and everything that was asked of it is kept in order."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from cerebelum import Failure
from cerebelum._host import Info, StepOptions, enter
from cerebelum.errors import failure_of
from cerebelum.steps import Step


class FakeHost:
    """Runs a step's function in a scope of its own; sleeps take no time."""

    def __init__(self, step: str | None = None, calls: list[Any] | None = None) -> None:
        self.step = step
        self.calls: list[Any] = [] if calls is None else calls
        self.inputs: dict[str, list[Any]] = {}

    def info(self) -> Info:
        return Info("execution-1", "flow", self.step, 1, 1, "key")

    async def sleep(self, duration_ms: int) -> None:
        self.calls.append(("sleep", duration_ms))

    async def run_step(self, step: Step[Any, Any], input: str, options: StepOptions) -> str:
        self.calls.append(step.name)
        self.inputs.setdefault(step.name, []).append(json.loads(input))

        async def scoped() -> str:
            enter(FakeHost(step.name))  # type: ignore[arg-type]
            try:
                return await step.run(input)
            except Exception as error:
                raise failure_of(error) from None

        try:
            return await asyncio.create_task(scoped())
        except Failure as failure:
            # As it comes out of a history: another object, and nothing but its fields.
            raise Failure(
                failure.message,
                kind=failure.kind,
                details=json.loads(json.dumps(failure.details)),
                retryable=failure.retryable,
            ) from None
