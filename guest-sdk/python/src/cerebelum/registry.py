"""The workflows and steps of this program, and the hosts and secrets that they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import DefinitionError

if TYPE_CHECKING:
    from .steps import AnyStep
    from .workflows import AnyWorkflow


class Registry:
    """Workflows and steps in the order of their definition; the later of two with one name wins."""

    def __init__(self) -> None:
        self.steps: dict[str, AnyStep] = {}
        self.workflows: dict[str, AnyWorkflow] = {}
        # Names that are defined in two places, which a component does not allow.
        self.doubles: list[str] = []
        self.hosts: list[str] = []
        self.secrets: list[str] = []

    def add_step(self, step: AnyStep) -> None:
        """Takes in a step."""
        self._note_double("step", step.name, self.steps.get(step.name), step)
        self.steps[step.name] = step

    def add_workflow(self, workflow: AnyWorkflow) -> None:
        """Takes in a workflow."""
        self._note_double("workflow", workflow.name, self.workflows.get(workflow.name), workflow)
        self.workflows[workflow.name] = workflow

    def _note_double(self, sort: str, name: str, before: Any, now: Any) -> None:
        if before is not None and place_of(before.function) != place_of(now.function):
            self.doubles.append(
                f"{sort} '{name}' is defined twice: {place_of(before.function)} and {place_of(now.function)}"
            )


registry = Registry()


def component(*, hosts: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
    """Declares what the steps of this program may reach: `component(hosts=["api.example.com"], secrets=["TOKEN"])`.

    Without it, steps reach no host. An admin of the engine grants what is declared. A secret is written
    `{{secret:TOKEN}}` in a request's URL or header and filled in by the engine.
    """
    registry.hosts.extend(hosts)
    registry.secrets.extend(secrets)


def check_name(sort: str, name: str) -> None:
    """Checks a name, which calls and commands have to be able to carry.

    # Raises
    DefinitionError when it is not valid.
    """
    if not name or "/" in name or any(character.isspace() for character in name) or len(name.encode()) > 256:
        raise DefinitionError(f"'{name}' cannot name a {sort}: 1 to 256 bytes without spaces and '/'")


def place_of(function: Any) -> str:
    """Where a function is defined, as `file:line`."""
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
