"""The two stages in which a component is made. Each ends with the memory of the interpreter being frozen.

The base is made once for each version of the SDK: componentize-py freezes it when `prepare` has returned. A program is
made from the base: `obey` takes an order and imports the author's module, and the command line freezes the result.
"""

from __future__ import annotations

import gc
import importlib
import io
import logging
import os
import shutil
import sys
import traceback
from typing import Any, NoReturn

from wit_world.exports import guest as words

from . import _bundle, _host, _unsupported
from ._code import Library, write
from ._engine import options_of
from .registry import registry


def prepare(library: str, copy: str) -> None:
    """Ends the base: imports what all programs share.

    Args:
        library: where the standard library is.
        copy: where a copy of the library is left, for builds.
    """
    _bundle.import_usual()
    shutil.copytree(library, copy, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    sys.path_importer_cache.clear()
    settle()


def obey(order: dict[str, Any]) -> Any:
    """Carries out an order of the command line. A mistake of the author's ends the process with its traceback on
    stderr.

    Args:
        order: either the `folder` to compile into a `file`, or the `module` to import, with the `path` to import from,
            the `roots` of the author's modules and of what they depend on, and the files with compiled `code`.

    # Returns
    the manifest
    """
    sys.argv.clear()
    if "folder" in order:
        is_library = order["folder"] == _bundle.library()
        write(order["folder"], order["file"], _bundle.UNUSABLE if is_library else ())
        leave(0)
    sys.path[:] = order["path"]
    code = Library(order["code"])
    undo = code.serve()
    # Bytecode that was cached elsewhere must not end up in a component.
    tag, sys.implementation.cache_tag = sys.implementation.cache_tag, None  # type: ignore[assignment]
    try:
        importlib.import_module(order["module"])
        return finish(order["roots"], code)
    except BaseException:
        traceback.print_exc()
        leave(1)
    finally:
        undo()
        sys.implementation.cache_tag = tag
        sys.path_importer_cache.clear()


def leave(status: int) -> NoReturn:
    """Ends the process."""
    sys.stderr.flush()
    os._exit(status)


def finish(roots: list[str], code: Library) -> Any:
    """Describes the component, and keeps in memory what cannot be read at run time.

    # Returns
    the manifest
    """
    for workflow in registry.workflows.values():
        if workflow.is_timeline:
            # Built here, so that its problems stop the build and it is frozen with the rest.
            _ = workflow.definition
    described = manifest()
    log_lines()
    # Otherwise each argument of a print is a call of the host.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    _bundle.keep(roots, code)
    _unsupported.end_build()
    settle()
    return described


def settle() -> None:
    """Exempts the build's objects from garbage collection, which would touch, and so copy, the memory of each
    instance."""
    _bundle.wipe()
    gc.collect()
    gc.freeze()


class LogLines(logging.Handler):
    """Python's logging as log lines of the execution."""

    def emit(self, record: logging.LogRecord) -> None:
        """Passes a record on."""
        level = "error" if record.levelno >= logging.ERROR else "warn" if record.levelno >= logging.WARNING else "info"
        if record.levelno < logging.INFO:
            level = "debug"
        try:
            _host.current().log(level, self.format(record))
        except Exception:
            # A line that cannot be formatted must not fail a step.
            self.handleError(record)


def log_lines() -> None:
    """Redirects Python's logging to the log, in the author's format for the console if there is one."""
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
    """The manifest of the author's module, in the types of the contract."""
    from . import __version__, _schema

    workflows = []
    for workflow in registry.workflows.values():
        takes, gives = _schema.of_workflow(workflow)
        workflows.append(words.WorkflowInfo(workflow.name, takes, gives, workflow.summary))
    steps = []
    for step in registry.steps.values():
        takes, gives = _schema.of_signature(step.signature)
        steps.append(words.StepInfo(step.name, takes, gives, step.summary, options_of(step.options)))
    return words.Manifest(f"python {__version__}", workflows, steps, list(registry.hosts), list(registry.secrets))
