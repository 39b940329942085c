"""The errors of an engine: one exception for each reaction of a caller."""

from __future__ import annotations

from ..errors import CerebelumError


class EngineError(CerebelumError):
    """A request to an engine failed; the message is one line for a person."""


class EngineUnreachable(EngineError):
    """The engine does not run, does not answer, or has a problem of its own: start it, or try again later.

    Whether the request took effect is unknown.
    """


class NotFound(EngineError):
    """There is no such execution, workflow, approval or run: look for the right name."""


class Refused(EngineError):
    """The request conflicts with the current state, exceeds a limit, or is not permitted: do not repeat it."""


class InvalidRequest(EngineError, ValueError):
    """The request is not valid as written: correct it."""
