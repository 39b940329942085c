"""Values on their way through JSON: encoding them, and decoding them by type hints."""

from __future__ import annotations

import json
from typing import Any

from .errors import SerializationError


def encode(value: Any, what: str) -> str:
    """The JSON text of a value.

    # Raises
    SerializationError when it has none; `what` says whose value it is.
    """
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(f"{what} is not JSON: {error}") from None


def decode(text: str, hint: Any, what: str) -> Any:
    """The value of a JSON text, as its type hint wants it.

    # Raises
    SerializationError when it does not fit.
    """
    return convert(json.loads(text), hint, what)


def convert(value: Any, hint: Any, what: str) -> Any:
    """A decoded JSON value as its type hint wants it."""
    return value


def kind_of(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
