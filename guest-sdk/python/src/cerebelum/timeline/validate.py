"""The validation report of a workflow: its errors and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .builder import draft
from .checks import problems_of

if TYPE_CHECKING:
    from ..workflows import AnyWorkflow


@dataclass(frozen=True)
class ValidationReport:
    """Errors keep a workflow from running; warnings do not."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether it can run."""
        return not self.errors

    def __str__(self) -> str:
        lines = [*(f"error: {error}" for error in self.errors), *(f"warning: {doubt}" for doubt in self.warnings)]
        return "\n".join(lines) or "no problems"


def report(workflow: AnyWorkflow) -> ValidationReport:
    """All errors and warnings of a workflow; those of an `async def` show only when it runs."""
    if not workflow.is_timeline:
        return ValidationReport()
    made = draft(workflow.function)
    if made.is_torn:
        return ValidationReport(errors=made.problems)
    found = problems_of(made.definition(workflow.name))
    return ValidationReport([*made.problems, *found.errors], found.warnings)
