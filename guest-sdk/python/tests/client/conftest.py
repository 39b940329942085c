"""What the client's tests share: one engine for all that do not kill theirs, and the world outside."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from engine_process import EngineProcess, World, component

from cerebelum.client import ExecutionClient

COMPONENTS = ("hello", "approval", "fan-out", "test-guests")


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the variables away that clients read."""
    for name in [name for name in os.environ if name.startswith("CEREBELUM_")]:
        if name not in ("CEREBELUM_BIN", "CEREBELUM_COMPONENTS"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The world outside."""
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[EngineProcess]:
    """An engine with the examples, which nobody kills."""
    engine = EngineProcess(tmp_path_factory.mktemp("engine"), allow_http=world.host)
    engine.start()
    asyncio.run(_upload(engine))
    yield engine
    engine.kill()


@pytest.fixture
def mortal_engines(tmp_path: Path) -> Iterator[Callable[[], EngineProcess]]:
    """Starts engines with the examples that a test may kill."""
    engines: list[EngineProcess] = []

    def start() -> EngineProcess:
        folder = tmp_path / f"engine-{len(engines)}"
        folder.mkdir()
        engines.append(EngineProcess(folder))
        engines[-1].start()
        return engines[-1]

    yield start
    for engine in engines:
        engine.kill()


@pytest_asyncio.fixture
async def client(engine: EngineProcess) -> AsyncIterator[ExecutionClient]:
    """A client of the shared engine."""
    async with ExecutionClient(engine.address) as client:
        yield client


async def _upload(engine: EngineProcess) -> None:
    async with ExecutionClient(engine.address) as client:
        for name in COMPONENTS:
            await client.upload(component(name))
