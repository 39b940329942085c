"""Python values as plain JSON data: what each type becomes, and where in a value something is that has no such form."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import isawaitable
from pathlib import PurePath
from typing import Any
from uuid import UUID

# What the engine accepts, see the contract; deeper values also endanger the stack of CPython in a component.
DEPTH_MAX = 128

SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None)})
CONTAINERS: frozenset[type] = frozenset({dict, list, tuple})
# The length of the longest path that is shown.
PATH_LENGTH_MAX = 120

TOO_DEEP = f"is nested deeper than {DEPTH_MAX} levels, or contains itself"
ADVICE = "use plain data, dataclasses, Enums or datetimes"


class NotPlain(Exception):
    """A part of a value has no JSON form. `path` leads there, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []


def is_plain(value: Any) -> bool:
    """Whether a value is JSON data as it stands: only plain types, nowhere too deep. Keys are not looked at."""
    if type(value) in SCALARS:
        return True
    if type(value) not in CONTAINERS:
        return False
    level: Iterable[Any] = (value,)
    for _ in range(DEPTH_MAX):
        # By identity, so that a value that contains itself twice does not double at every level.
        inner: dict[int, Any] = {}
        for container in level:
            for part in container.values() if type(container) is dict else container:
                kind = type(part)
                if kind in SCALARS:
                    continue
                if kind not in CONTAINERS:
                    return False
                inner[id(part)] = part
        if not inner:
            return True
        level = inner.values()
    return False


# What writes a value of a type, given how many containers are around it.
Write = Callable[[Any, int], Any]


def plain(value: Any, depth: int = 0) -> Any:
    """The JSON data that a value becomes.

    # Raises
    NotPlain where it becomes none.
    """
    kind = type(value)
    write = _writers.get(kind) or _writer_of(kind)
    return write(value, depth)


def _writer_of(kind: type) -> Write:
    """What writes values of a type; found once for each."""
    if len(_writers) >= WRITERS_MAX:
        _writers.clear()
    write = _writers[kind] = _simple(kind) or _composed(kind) or _refuse
    return write


def _simple(kind: type) -> Write | None:  # noqa: PLR0911 - one line for each sort of type
    """For types whose values become one text or number."""
    if issubclass(kind, Enum):
        return lambda value, depth: plain(value.value, depth)
    if kind is bool or kind is type(None):
        return lambda value, _: value
    if issubclass(kind, str):
        return lambda value, _: str.__str__(value)
    if issubclass(kind, (int, float)):
        return lambda value, _: _number(value)
    if issubclass(kind, (datetime, date, time)):
        return lambda value, _: value.isoformat()
    if issubclass(kind, timedelta):
        return lambda value, _: _milliseconds(value)
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return lambda value, _: base64.b64encode(value).decode("ascii")
    return (lambda value, _: str(value)) if issubclass(kind, (Decimal, UUID, PurePath)) else None


def _composed(kind: type) -> Write | None:  # noqa: PLR0911 - one line for each sort of type
    """For types whose values become an object or an array."""
    if issubclass(kind, Mapping):
        return _mapping
    if dataclasses.is_dataclass(kind):
        return _named([field.name for field in dataclasses.fields(kind)])
    if hasattr(kind, "__attrs_attrs__"):
        return _named([attribute.name for attribute in kind.__attrs_attrs__])
    # pydantic's models, of either generation.
    if hasattr(kind, "model_dump"):
        return lambda value, depth: _mapping(value.model_dump(mode="json"), depth)
    if hasattr(kind, "parse_obj") and hasattr(kind, "dict"):
        return lambda value, depth: _mapping(value.dict(), depth)
    if issubclass(kind, (set, frozenset)):
        return lambda value, depth: _in_order(_array(value, depth))
    return _array if issubclass(kind, Sequence) else None


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    _check(depth)
    made = {}
    for key, inner in value.items():
        name = key if type(key) is str else _key(key)
        try:
            made[name] = plain(inner, depth + 1)
        except NotPlain as trouble:
            trouble.path.append(name)
            raise
    return made


def _named(names: list[str]) -> Write:
    def write(value: Any, depth: int) -> dict[str, Any]:
        _check(depth)
        made = {}
        for name in names:
            try:
                made[name] = plain(getattr(value, name), depth + 1)
            except NotPlain as trouble:
                trouble.path.append(name)
                raise
        return made

    return write


def _array(value: Iterable[Any], depth: int) -> list[Any]:
    _check(depth)
    made: list[Any] = []
    for inner in value:
        try:
            made.append(plain(inner, depth + 1))
        except NotPlain as trouble:
            trouble.path.append(len(made))
            raise
    return made


def _in_order(items: list[Any]) -> list[Any]:
    """The items of a set in an order that is the same each time: numbers and texts by value, others by their JSON."""
    if all(type(item) is str for item in items) or all(type(item) in (int, float) for item in items):
        return sorted(items)
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _check(depth: int) -> None:
    if depth >= DEPTH_MAX:
        raise NotPlain(TOO_DEEP)


def _refuse(value: Any, _: int) -> Any:
    raise NotPlain(_refusal(value))


_writers: dict[type, Write] = {dict: _mapping, list: _array, tuple: _array}
# Classes that are made while the program runs must not pile up.
WRITERS_MAX = 10_000


def _milliseconds(value: timedelta) -> int | float:
    micros = value // timedelta(microseconds=1)
    return micros // 1_000 if micros % 1_000 == 0 else micros / 1_000


def _number(value: int | float) -> int | float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotPlain(f"is {value!r}, which JSON does not have: use None or text")
        return value
    # A limit below 640 digits cannot be set.
    if value.bit_length() > 2_000:
        try:
            int.__repr__(value)
        except ValueError:
            digits = int(value.bit_length() * math.log10(2)) + 1
            raise NotPlain(
                f"is an integer of about {digits} digits, more than Python writes as text: use hex text"
            ) from None
    return int(value)


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        return _key(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(_number(key) if isinstance(key, (int, float)) and not isinstance(key, bool) else key)
    if isinstance(key, (datetime, date, time, Decimal, UUID, PurePath)):
        return str(plain(key))
    raise NotPlain(f"has a key that is {a(type(key).__name__)}: keys are text")


def _refusal(value: Any) -> str:
    name = type(value).__name__
    if isawaitable(value):
        return f"is a {name}: await it"
    if isinstance(value, Iterator):
        return f"is {a(name)}, which can be read only once: use list(…)"
    if isinstance(value, type):
        return f"is the class {value.__name__}, not an instance of it"
    if callable(value):
        return f"is {a(name)}: call it"
    return f"is {a(name)} object: {ADVICE}"


def a(noun: str) -> str:
    """The noun with its article."""
    return f"an {noun}" if noun[:1] in "aeiouAEIOU" else f"a {noun}"


def shown_path(inner_first: list[str | int]) -> str:
    """`.items[3].created`; the middle of a long one is left out."""
    path = "".join(segment(at) for at in reversed(inner_first))
    if len(path) > PATH_LENGTH_MAX:
        return f"{path[: PATH_LENGTH_MAX // 2]}…{path[-PATH_LENGTH_MAX // 2 :]}"
    return path


def segment(at: str | int) -> str:
    """One step of a path."""
    if isinstance(at, int):
        return f"[{at}]"
    return f".{at}" if at.isidentifier() else f"[{json.dumps(at)}]"
