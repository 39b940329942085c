"""JSON conversions of the client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._values import encode
from .errors import InvalidRequest


def decode(text: str) -> Any:
    """The value that this JSON text is; an empty one is `None`."""
    return json.loads(text) if text else None


def encode_attributes(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    """Attributes, each a JSON scalar.

    # Raises
    InvalidRequest when one is not.
    """
    encoded = {}
    for name, value in (attributes or {}).items():
        if not (value is None or isinstance(value, str | bool | int | float)):
            raise InvalidRequest(f"attribute {name!r} has to be text, a number, a truth value or None")
        encoded[name] = encode(value, f"attribute {name!r}")
    return encoded
