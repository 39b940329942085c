"""The context of a workflow or step: its identity, its clock, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from . import _values
from ._host import Host, current
from .errors import Failure

# The levels of log lines, by the words for them.
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "critical": "error",
    "fatal": "error",
}


@dataclass(frozen=True)
class Context:
    """The first parameter of every workflow and step."""

    # The input of this workflow or step.
    inputs: Any
    execution_id: str
    workflow_name: str
    # None in a workflow.
    step_name: str | None = None
    # Which attempt of the step this is, from 1.
    attempt: int = 1
    # Counts up with every continue_as_new, from 1.
    run: int = 1
    # Stable across retries and reruns: pass it to services that support idempotency keys.
    idempotency_key: str = ""
    _host: Host | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, host: Host, inputs: Any) -> Context:
        """The context of a scope."""
        info = host.info()
        return cls(
            inputs=inputs,
            execution_id=info.execution_id,
            workflow_name=info.workflow,
            step_name=info.step,
            attempt=info.attempt,
            run=info.run,
            idempotency_key=info.idempotency_key,
            _host=host,
        )

    def now(self) -> datetime:
        """The time, in UTC; the same on a rerun."""
        return datetime.fromtimestamp(self._at().now_ms() / 1_000, tz=timezone.utc)

    def update_progress(self, percent: int, message: str = "") -> None:
        """Reports the progress of this workflow or step, 0 to 100."""
        self._at().progress(max(0, min(100, int(percent))), message)

    def log(self, message: str, level: str = "info") -> None:
        """A line for the log; level is `debug`, `info`, `warn` or `error`. A rerun does not repeat it.

        The words of Python's logging mean the same: `warning` is `warn`, `critical` and `fatal` are `error`.

        # Raises
        Failure of kind `invalid-argument` for another level.
        """
        meant = LEVELS.get(level)
        if meant is None:
            message = f"there is no log level {level!r}: use debug, info, warn or error"
            raise Failure(message, kind="invalid-argument", retryable=False)
        self._at().log(meant, message)

    def set_attribute(self, name: str, value: str | int | float | bool | None) -> None:
        """Sets an attribute that lists can be filtered by. Workflows only.

        # Raises
        Failure when it is not a scalar, or in a step.
        """
        if not isinstance(value, (str, int, float, bool, type(None))) or not name:
            message = f"attribute '{name}' is text, a number, true, false or null, and has a name"
            raise Failure(message, kind="invalid-argument", retryable=False)
        self._at().set_attribute(name, _values.encode(value, f"attribute '{name}'"))

    def _at(self) -> Host:
        host = self._host or current()
        # Outside of any workflow, a context made by hand brings its own name.
        seen_as = getattr(host, "seen_as", None)
        return seen_as(self.step_name or self.workflow_name) if seen_as else host
