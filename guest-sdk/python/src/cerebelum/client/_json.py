"""JSON as it travels: one compact text, unmodified, integers exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import InvalidRequest


def encode(value: Any, what: str) -> str:
    """The value as JSON text. `what` names it in the error.

    Errors: `InvalidRequest` when it is not JSON.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # A lone surrogate is no text that anybody else could read.
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} cannot be sent as JSON: {error}") from error
    return text


def decode(text: str) -> Any:
    """The value that this JSON text is; an empty one is `None`."""
    return json.loads(text) if text else None


def encode_attributes(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    """Attributes, each a JSON scalar.

    Errors: `InvalidRequest` when one is not.
    """
    encoded = {}
    for name, value in (attributes or {}).items():
        if not (value is None or isinstance(value, str | bool | int | float)):
            raise InvalidRequest(f"attribute {name!r} has to be text, a number, a truth value or None")
        encoded[name] = encode(value, f"attribute {name!r}")
    return encoded
