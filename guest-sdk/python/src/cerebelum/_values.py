"""Values on their way through JSON: encoding them, and decoding them by type hints.

What becomes what: a dataclass, attrs class, TypedDict, pydantic model or mapping becomes an object; lists, tuples and
other sequences an array; an Enum its value; datetime, date and time ISO 8601 text with the offset that they have; a
timedelta a number of milliseconds, as durations are everywhere in this package; Decimal, UUID and Path text; bytes
base64 text; a set an array in order.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ._convert import Mismatch, converter, kind_of
from ._plain import DEPTH_MAX, NotPlain, is_plain, plain, shown_path
from ._types import Anything, shape_of
from .errors import SerializationError

__all__ = ["DEPTH_MAX", "VALUE_BYTES_MAX", "convert", "decode", "dump", "encode", "kind_of", "parse", "prepare"]

# The largest value that the engine accepts.
VALUE_BYTES_MAX = 1 << 20


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# One each, since json.dumps and json.loads make a new one for every call with options.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_WIDE_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def encode(value: Any, what: str) -> str:
    """The JSON text of a value; `what` says whose value it is.

    # Raises
    SerializationError when it has none, or one of more than 1 MiB.
    """
    text = dump(value, what)
    if len(text) > VALUE_BYTES_MAX:
        return _shortened(text, what)
    return text


def dump(value: Any, what: str) -> str:
    """The JSON text of a value, however long.

    # Raises
    SerializationError when it has none.
    """
    try:
        if is_plain(value):
            try:
                return _ENCODER.encode(value)
            except (TypeError, ValueError):
                pass  # NaN or an unsupported key: the walk finds out which.
        return _ENCODER.encode(plain(value))
    except NotPlain as trouble:
        path = shown_path(trouble.path) or "it"
        raise SerializationError(f"{what} is not JSON: {path} {trouble.reason}") from None
    except RecursionError:
        raise SerializationError(f"{what} is not JSON: too little of the stack is left to look at it") from None


def _shortened(text: str, what: str) -> str:
    """Text with its characters instead of escapes, which may fit; lone surrogates have no other form than escapes."""
    size = len(text)
    try:
        wide = _WIDE_ENCODER.encode(json.loads(text))
        size = len(wide.encode())
    except UnicodeEncodeError:
        wide = text
    if size <= VALUE_BYTES_MAX:
        return wide
    raise SerializationError(
        f"{what} is {size:,} bytes of JSON where at most {VALUE_BYTES_MAX:,} are accepted: "
        "store large data elsewhere and pass a reference"
    )


def decode(text: str, hint: Any, what: str) -> Any:
    """The value of a JSON text, as its type hint wants it.

    The text comes from the engine or from `encode`: its depth is known to be harmless. Use `parse` for others.

    # Raises
    SerializationError when it does not fit.
    """
    return convert(read(text, what), hint, what)


def parse(text: str, hint: Any, what: str) -> Any:
    """The same for text of unknown origin: one that is nested too deeply is refused before it is read.

    In a component such a text would overflow the stack of CPython, which nothing can catch.
    """
    if is_too_deep(text):
        raise SerializationError(f"{what} is nested deeper than {DEPTH_MAX} levels")
    return convert(read(text, what), hint, what)


def read(text: str, what: str) -> Any:
    """The value of a JSON text.

    # Raises
    SerializationError when it is not JSON.
    """
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        raise SerializationError(f"{what} is not JSON: {error}") from None


def convert(value: Any, hint: Any, what: str, at: str = "") -> Any:
    """A decoded JSON value as its type hint wants it; `at` is where in `what` it stands, as `.name`.

    # Raises
    SerializationError when it does not fit.
    """
    read = converter(shape_of(hint))
    if read is None:
        return value
    try:
        return read(value)
    except Mismatch as mismatch:
        path = at + shown_path(mismatch.path)
        raise SerializationError(f"{what}: {path}: {mismatch.reason}" if path else f"{what}: {mismatch}") from None


def prepare(hint: Any) -> None:
    """Does the part of decoding that depends on the hint alone; done while a component is built, it costs no start."""
    shape = shape_of(hint)
    if not isinstance(shape, Anything):
        converter(shape)


_BRACKETS_ONLY = re.compile(r"[^\[\]{}]+")


def is_too_deep(text: str) -> bool:
    """Whether a JSON text is nested deeper than 128 levels, found without recursion."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return False
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(unescaped.split('"')[::2])
    brackets = _BRACKETS_ONLY.sub("", outside).replace("{", "[").replace("}", "]")
    for _ in range(DEPTH_MAX):
        # Each round takes off the innermost level.
        brackets, before = brackets.replace("[]", ""), len(brackets)
        if len(brackets) == before:
            # Nothing is left, or brackets that were never closed. That is not JSON, but the parser may safely say so.
            return brackets.count("[") > DEPTH_MAX
    return bool(brackets)
