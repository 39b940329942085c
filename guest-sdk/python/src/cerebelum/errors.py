"""Exceptions of the package: placeholder of this branch with the two that the client needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import ExecutionResult


class CerebelumError(Exception):
    """Base of everything this package raises on its own account."""


class ExecutionError(CerebelumError):
    """An execution did not complete. `result` says how it ended, as far as it is known."""

    def __init__(
        self,
        message: str,
        step_name: str | None = None,
        error: BaseException | None = None,
        result: ExecutionResult | None = None,
    ) -> None:
        """`message` says why in one line, `step_name` which step it was, `error` what was raised, if that is known."""
        where = f" at step '{step_name}'" if step_name else ""
        super().__init__(f"Execution failed{where}: {message}")
        self.message = message
        self.step_name = step_name
        self.error = error
        self.result = result
