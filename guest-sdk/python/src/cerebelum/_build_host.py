"""The host while a component is built: there is no execution yet, so every durable call is a mistake."""

from __future__ import annotations

from typing import Any, NoReturn

from .errors import ContextError


class BuildHost:
    """Refuses everything that a `Host` does."""

    def __getattr__(self, name: str) -> Any:
        """Any method of a host."""

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise ContextError(
                f"{name}() was called while the component is built: code at module level runs only then; "
                "call it from a workflow or step"
            )

        return refuse
