"""Python values as plain JSON data: what each type becomes, and where in a value something is that has no such form."""

from __future__ import annotations

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


def plain(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one line for each sort of value
    """The JSON data that a value becomes.

    # Raises
    NotPlain where it becomes none.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int or kind is float:
        return _number(value)
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if (single := _single(value)) is not None:
        return single
    members = _members(value)
    if members is not None:
        return {key: _part(inner, key, depth) for key, inner in members}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_part(inner, index, depth) for index, inner in enumerate(value)]
    raise NotPlain(_refusal(value))


def _part(value: Any, at: str | int, depth: int) -> Any:
    try:
        if depth >= DEPTH_MAX - 1 and type(value) not in SCALARS and not _is_leaf(value):
            raise NotPlain(TOO_DEEP)
        return plain(value, depth + 1)
    except NotPlain as trouble:
        trouble.path.append(at)
        raise


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (Enum, str, int, float)) or _single(value) is not None


def _number(value: int | float) -> int | float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotPlain(f"is {value!r}, which JSON does not have: use None or text")
        return value
    # Nobody sees a limit below 640 digits: that is the least that can be set.
    if value.bit_length() > 2_000:
        try:
            int.__repr__(value)
        except ValueError:
            digits = int(value.bit_length() * math.log10(2)) + 1
            raise NotPlain(
                f"is an integer of about {digits} digits, more than Python writes as text: use hex text"
            ) from None
    return int(value)


def _single(value: Any) -> str | int | float | None:
    """What types that stand for one text or number become; None for others."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
        return micros // 1_000 if micros % 1_000 == 0 else micros / 1_000
    if isinstance(value, (Decimal, UUID, PurePath)):
        return str(value)
    return None


def _members(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The members of what becomes an object; None for others."""
    if isinstance(value, Mapping):
        return ((_key(key), inner) for key, inner in value.items())
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return ((attribute.name, getattr(value, attribute.name)) for attribute in attributes)
    dump = dumper(value)
    return None if dump is None else iter(dump().items())


def dumper(value: Any) -> Callable[[], dict[str, Any]] | None:
    """What turns a pydantic model into a dict, of either of its generations."""
    if hasattr(type(value), "model_dump"):
        return lambda: dict(value.model_dump(mode="json"))
    if hasattr(type(value), "parse_obj") and hasattr(type(value), "dict"):
        return lambda: dict(value.dict())
    return None


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        return _key(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(_number(key) if isinstance(key, (int, float)) and not isinstance(key, bool) else key)
    if isinstance(key, (datetime, date, time, Decimal, UUID, PurePath)):
        return str(_single(key))
    raise NotPlain(f"has a key that is {a(type(key).__name__)}: keys are text")


def _refusal(value: Any) -> str:  # noqa: PLR0911 - one line for each sort of value
    name = type(value).__name__
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"is {name}: use text, base64.b64encode(…).decode() say"
    if isinstance(value, (set, frozenset)):
        return f"is a {name}, which has no order: use a list, sorted(…) say"
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
