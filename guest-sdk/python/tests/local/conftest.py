"""What the tests of local mode and of the kit share."""

from __future__ import annotations

import pytest

from cerebelum.registry import registry


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests define is unknown to all others."""
    for name in ("steps", "workflows"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(registry, "doubles", list(registry.doubles))


@pytest.fixture(params=["kept", "rerun"])
def hibernating(request: pytest.FixtureRequest) -> bool:
    """Both ways in which an engine runs a workflow: it stays in memory, or it is rerun after every wait."""
    return bool(request.param == "rerun")
