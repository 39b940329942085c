"""What the tests of timelines share: a host, steps that answer as they are told, workflows nobody else sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_host import FakeHost

from cerebelum import step
from cerebelum._host import enter
from cerebelum.registry import registry
from cerebelum.steps import Step
from cerebelum.timeline import Workflow


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
    for name in ("steps", "workflows"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(registry, "doubles", list(registry.doubles))
