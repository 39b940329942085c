"""The entry of a component: what it exports. It is imported before anything else, and puts the loop in its place."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Coroutine
from typing import Any

from componentize_py_types import Err
from wit_world import WitWorld as _World
from wit_world.exports import Guest as _Guest

from . import _freeze, _host, _import_hooks, _loop, _unsupported
from ._build_host import BuildHost
from ._engine import EngineHost, failure_to
from .errors import Failure, failure_of
from .registry import registry

_loop.install()
_unsupported.install()
_import_hooks.install()
# Until the build is over, a durable call raises an error that says so.
_host.occupy(BuildHost())

# Set at the end of the build.
_manifest: Any = None
# The runtime seeds at its first call, which is part of the build.
_is_seeded = False


class WitWorld(_World):  # type: ignore[misc]
    """The world's own exports: none."""


class Guest(_Guest):  # type: ignore[misc]
    """The interface `guest` of the contract."""

    def describe(self) -> Any:
        """The manifest. The first call turns a base into a component, following the order in the only argument."""
        global _manifest
        if _manifest is None:
            _manifest = _freeze.obey(json.loads(sys.argv[-1]))
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
    global _is_seeded
    if not _is_seeded:
        # Otherwise every execution would draw the same numbers.
        random.seed()
        _is_seeded = True
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
    """Fails because there is no such workflow or step."""
    message = f"there is no {sort} '{name}' here; there are {', '.join(sorted(known)) or 'none'}"
    raise Failure(message, retryable=False)
