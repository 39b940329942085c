"""Progress reports in the form of the original Cerebelum."""

from __future__ import annotations

from .context import Context

CELLS = 20


class ProgressReporter:
    """Reports the progress of a step or workflow: the console shows a bar, an engine keeps the latest."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.last_progress = 0

    def update(self, percent: int, message: str = "") -> None:
        """Reports the progress, 0 to 100."""
        self.last_progress = percent
        self._context.update_progress(percent, message)


def bar(name: str, percent: int, message: str) -> str:
    """A line for a console: name, twenty cells, number, message."""
    filled = int(CELLS * percent / 100)
    return f"  [{name}] {'█' * filled}{'░' * (CELLS - filled)} {percent}% - {message}"
