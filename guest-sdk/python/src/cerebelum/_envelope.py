"""The envelopes that a step may return: `{"ok": value}` and `{"error": reason}`."""

from __future__ import annotations

import json
from typing import Any

from .errors import Failure


def opened(value: Any) -> Any:
    """The value itself: what is in an ok-envelope, or what is no envelope.

    # Raises
    Failure for an error-envelope; it is an answer, so that no retry would change it.
    """
    if not isinstance(value, dict) or len(value) != 1:
        return value
    if "ok" in value:
        return value["ok"]
    if "error" in value:
        reason = value["error"]
        message = reason if isinstance(reason, str) else json.dumps(reason, default=str)
        raise Failure(message, details={"error": reason}, retryable=False)
    return value
