"""What an engine's no means: one exception for each thing a caller can do about it."""

from __future__ import annotations

from ..errors import CerebelumError


class EngineError(CerebelumError):
    """An engine did not do what it was asked; the text is one line for a person."""


class EngineUnreachable(EngineError):
    """The engine is not there, does not answer, or is in trouble itself: start it, or ask again later.

    Whether it did what it was asked is not known.
    """


class NotFound(EngineError):
    """There is no such execution, workflow, approval or run: look for the right name."""


class Refused(EngineError):
    """It contradicts what is, exceeds a limit, or is not permitted: asking again changes nothing."""


class InvalidRequest(EngineError, ValueError):
    """The request makes no sense as written: correct it."""
