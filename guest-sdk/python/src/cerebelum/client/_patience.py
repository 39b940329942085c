"""How long a waiting caller tolerates an unreachable engine."""

from __future__ import annotations

import asyncio
import random
import time

from .errors import EngineUnreachable

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0


class Patience:
    """Measures how long the engine has been away, and spaces the attempts."""

    def __init__(self, away_seconds_max: float) -> None:
        """`away_seconds_max` is the longest tolerated absence."""
        self._away_seconds_max = away_seconds_max
        self.renew()

    def renew(self) -> None:
        """The engine answered."""
        self._since: float | None = None
        self._pause_seconds = FIRST_SECONDS

    async def outlast(self, absence: EngineUnreachable, until: float | None = None) -> None:
        """Returns when another attempt is due, at the monotonic time `until` at the latest.

        # Raises
        `absence` itself when the engine has been away for too long.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since >= self._away_seconds_max:
            raise absence
        # Jitter, so that a thousand clients do not rush an engine that has just restarted.
        pause = self._pause_seconds * random.uniform(0.75, 1.0)
        self._pause_seconds = min(self._pause_seconds * 2, LONGEST_SECONDS)
        await asyncio.sleep(pause if until is None else max(0.0, min(pause, until - now)))
