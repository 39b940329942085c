"""A tiny host for timelines: steps run in line, once, and everything that was asked of it is kept in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from cerebelum import Failure, Step, Workflow
from cerebelum._host import Info, StepOptions, enter
from cerebelum.errors import failure_of


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


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def run(host: FakeHost) -> Callable[..., Any]:
    """Runs a workflow from JSON to JSON."""

    def run(workflow: Workflow, inputs: Any = None) -> Any:
        async def scoped() -> str:
            enter(host)  # type: ignore[arg-type]
            return await workflow.run(json.dumps(inputs))

        return json.loads(asyncio.run(scoped()))

    return run


@pytest.fixture
def answers() -> Callable[..., Step[Any, Any]]:
    """Makes a step that answers one thing after the other, the last one for ever; exceptions are raised."""

    def make(name: str, *given: Any) -> Step[Any, Any]:
        left = list(given) or [name.upper()]

        async def body(context: Any) -> Any:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        from cerebelum import step

        made: Step[Any, Any] = step(name=name)(body)
        return made

    return make


@pytest.fixture
def flow() -> Callable[[Callable[..., Any]], Workflow]:
    """Makes a workflow without entering it into the registry."""
    return lambda body: Workflow(body, "flow")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests define is unknown to all others."""
    from cerebelum.registry import registry

    for name in ("steps", "workflows"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(registry, "doubles", list(registry.doubles))
