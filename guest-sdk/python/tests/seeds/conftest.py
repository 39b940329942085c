"""An engine for the snippets that need one; and says loudly when the original documents are not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from seed_blocks import ABSENT, folder

sys.path.append(str(Path(__file__).parents[1] / "client"))
from engine_process import EngineProcess, binary


@pytest.fixture(scope="session")
def engine_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine for the snippets."""
    engine = EngineProcess(tmp_path_factory.mktemp("engine"))
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture
def engine(engine_alone: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address, which programs find as well."""
    # The variables of whoever runs the tests are for tests to read, not for programs.
    monkeypatch.setenv("CEREBELUM_BIN", str(binary()))
    for name in [name for name in os.environ if name.startswith("CEREBELUM_") and name != "CEREBELUM_BIN"]:
        monkeypatch.delenv(name)
    componentize = Path(sys.executable).with_name("componentize-py")
    if componentize.is_file():
        monkeypatch.setenv("CEREBELUM_COMPONENTIZE", str(componentize))
    monkeypatch.setenv("CEREBELUM_URL", engine_alone.address)
    return engine_alone.address


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line at the end of the run."""
    if folder() is None:
        terminalreporter.write_line(ABSENT, yellow=True, bold=True)
