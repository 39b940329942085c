"""JSON Schemas from type hints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._signature import Signature
    from .workflows import Workflow


def of_signature(signature: Signature) -> tuple[str | None, str | None]:
    """The schemas of what a function takes and returns, as JSON text."""
    return None, None


def of_workflow(workflow: Workflow) -> tuple[str | None, str | None]:
    """The schemas of what a workflow takes and returns."""
    return None, None
