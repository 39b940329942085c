"""The entry of a component: what it exports, and what happens once while it is built.

The order matters: this module is imported first and puts the loop in its place, then the author's module, then
`finish()` is called. After that the memory is frozen into the component.
"""

from __future__ import annotations

import gc
import io
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from componentize_py_types import Err
from wit_world import WitWorld as _World
from wit_world.exports import Guest as _Guest
from wit_world.exports import guest as words

from . import _absent, _arrivals, _bundle, _host, _loop
from ._building import Building
from ._engine import EngineHost, failure_to, options_of
from .errors import Failure, failure_of
from .registry import registry

_loop.install()
_absent.install()
_arrivals.install()
# Until the build is over, a durable call is a mistake with a name.
_host.occupy(Building())

_manifest: Any = None


class WitWorld(_World):  # type: ignore[misc]
    """The world's own exports: none."""


class Guest(_Guest):  # type: ignore[misc]
    """The interface `guest` of the contract."""

    def describe(self) -> Any:
        """What this component is; made while it was built."""
        return _manifest

    async def workflow(self, name: str, input: str) -> str:
        """Runs a workflow."""
        found = registry.workflows.get(name)
        return await enter(found.run(input) if found else missing("workflow", name, registry.workflows))

    async def step(self, name: str, input: str) -> str:
        """Runs a step."""
        found = registry.steps.get(name)
        return await enter(found.run(input) if found else missing("step", name, registry.steps))


async def enter(coroutine: Coroutine[Any, Any, str]) -> str:
    """Runs the author's code; whatever it raises becomes a failure."""
    _host.occupy(EngineHost())
    try:
        return str(await _loop.keep(coroutine))
    except Err:
        raise
    except BaseException as error:
        raise Err(failure_to(failure_of(error))) from None
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


async def missing(sort: str, name: str, known: dict[str, Any]) -> str:
    """There is no such workflow or step."""
    message = f"there is no {sort} '{name}' here; there are {', '.join(sorted(known)) or 'none'}"
    raise Failure(message, retryable=False)


class LogLines(logging.Handler):
    """Python's logging as log lines of the execution."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hands a record on."""
        level = "error" if record.levelno >= logging.ERROR else "warn" if record.levelno >= logging.WARNING else "info"
        if record.levelno < logging.INFO:
            level = "debug"
        try:
            _host.current().log(level, self.format(record))
        except Exception:
            # A line that cannot be made is not worth a failed step.
            self.handleError(record)


def finish(roots: list[str]) -> None:
    """Ends the build: describes the component and keeps what is needed at run time and cannot be read then.

    Args:
        roots: the folders of the author's modules and of what they depend on, as they are mounted during the build.
    """
    global _manifest
    for workflow in registry.workflows.values():
        if workflow.is_timeline:
            # Here, where its problems stop the build, and so that it is frozen with the rest.
            _ = workflow.definition
    _manifest = manifest()
    log_lines()
    # Otherwise each argument of a print is a call of the host.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    _bundle.keep(roots)
    # What the build made stays: looking for garbage in it would only touch, and so copy, the memory of each instance.
    gc.collect()
    gc.freeze()


def log_lines() -> None:
    """Makes Python's logging go to the log, in the format that the author chose for the console, if so."""
    root, formatter = logging.getLogger(), logging.Formatter("%(name)s: %(message)s")
    for there in list(root.handlers):
        if isinstance(there, logging.StreamHandler) and there.stream in (sys.stdout, sys.stderr):
            formatter = there.formatter or formatter
            root.removeHandler(there)
    lines = LogLines()
    lines.setFormatter(formatter)
    root.addHandler(lines)
    if root.level == logging.WARNING:
        root.setLevel(logging.INFO)


def manifest() -> Any:
    """What the author's module defined, in the words of the contract."""
    from . import __version__, _schema

    workflows = []
    for workflow in registry.workflows.values():
        takes, gives = _schema.of_workflow(workflow)
        workflows.append(words.WorkflowInfo(workflow.name, takes, gives, workflow.summary))
    steps = []
    for step in registry.steps.values():
        takes, gives = _schema.of_signature(step.signature)
        steps.append(words.StepInfo(step.name, takes, gives, step.summary, options_of(step.options)))
    hosts = registry.hosts if registry.hosts is not None else ["*"]
    return words.Manifest(f"python {__version__}", workflows, steps, hosts, list(registry.secrets))
