"""`Worker`: uploads the workflows of a program to an engine, which runs them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import CerebelumError
from .calling import ExecutionClient
from .records import ComponentInfo

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..steps import AnyStep
    from ..workflows import AnyWorkflow


class BuildError(CerebelumError):
    """A component could not be built; the message is that of the build."""


class Worker:
    """Builds the component of registered workflows and uploads it.

    Steps run on the engine, in their sandboxes, not in this process: it may end once `deploy` is done. `start` stays
    until `stop`, for programs written for the workers of the original Cerebelum.
    """

    def __init__(
        self,
        worker_id: str = "python-worker",
        core_url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Arguments as in `ExecutionClient`; `worker_id` names this program to the engine."""
        self.worker_id = worker_id
        self.client = ExecutionClient(core_url, token, timeout, agent=f"cerebelum-python/{worker_id}")
        self._sources: list[Path] = []
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    def register_workflow(self, workflow: AnyWorkflow) -> None:
        """Registers a workflow: the file that defines it becomes a component of the file's name."""
        self._register(workflow)

    def register_step(self, step: AnyStep) -> None:
        """Registers a step: the file that defines it becomes a component of the file's name."""
        self._register(step)

    async def deploy(self) -> list[ComponentInfo]:
        """Builds and uploads; running executions keep the component they began with.

        # Raises
        BuildError, and what `ExecutionClient.upload` raises.
        """
        uploaded = []
        with tempfile.TemporaryDirectory(prefix="cerebelum-") as folder:
            for source in self._sources:
                built = Path(folder) / f"{source.stem}.wasm"
                await build(source, built)
                uploaded.append(await self.client.upload(built, name=source.stem))
        return uploaded

    async def start(self) -> None:
        """Builds, uploads, and stays until `stop`."""
        await self.deploy()
        await self._stopped.wait()

    async def stop(self) -> None:
        """Ends `start`; what was uploaded stays on the engine."""
        self._stopped.set()

    def _register(self, defined: Any) -> None:
        place = getattr(sys.modules.get(defined.__module__), "__file__", None)
        if place is None:
            raise BuildError(f"{defined!r} was not defined in a file, so that there is nothing to build")
        source = Path(place).resolve()
        if source not in self._sources:
            self._sources.append(source)


async def build(source: Path, component: Path) -> None:
    """Runs `cerebelum build`.

    # Raises
    BuildError when it fails or is not installed.
    """
    program = os.environ.get("CEREBELUM_BIN") or shutil.which("cerebelum")
    if program is None:
        raise BuildError("there is no `cerebelum` on the PATH to build with; CEREBELUM_BIN names it elsewhere")
    building = await asyncio.create_subprocess_exec(
        program, "build", str(source), "-o", str(component), stderr=asyncio.subprocess.PIPE
    )
    _, said = await building.communicate()
    if building.returncode != 0:
        raise BuildError(said.decode(errors="replace").strip())
