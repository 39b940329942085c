"""What local mode prints: progress bars, and log lines through Python's logging."""

from __future__ import annotations

import logging
import sys

from .. import progress

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

logger = logging.getLogger("cerebelum")


class _Stderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record."""
        print(self.format(record), file=sys.stderr, flush=True)


def line(name: str, level: str, message: str) -> None:
    """A log line; on stderr when the program has not set logging up itself."""
    if not logger.hasHandlers():
        logger.addHandler(_Stderr())
        logger.setLevel(logging.DEBUG)
    logger.log(LEVELS.get(level, logging.INFO), "[%s] %s", name, message)


def bar(name: str, percent: int, message: str) -> None:
    """A progress bar on stdout."""
    print(progress.bar(name, percent, message), flush=True)
