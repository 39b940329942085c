"""What local mode prints: progress bars, and log lines through Python's logging."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from .. import progress

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

logger = logging.getLogger("cerebelum")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Where to."""
        return sys.stderr


def line(name: str, level: str, message: str) -> None:
    """A log line; on stderr when the program has not set logging up itself."""
    if not logger.hasHandlers():
        logger.addHandler(_Stderr())
        logger.setLevel(logging.DEBUG)
    logger.log(LEVELS.get(level, logging.INFO), "[%s] %s", name, message)


def bar(name: str, percent: int, message: str) -> None:
    """A progress bar on stdout."""
    print(progress.bar(name, percent, message), flush=True)
