"""Decoded JSON as the values that shapes ask for."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import PurePath
from typing import Any
from uuid import UUID

from ._plain import a, segment, shown_path
from ._types import (
    Anything,
    Choice,
    Convert,
    Fixed,
    Items,
    Member,
    Model,
    OneOf,
    Record,
    Scalar,
    Shape,
    Table,
    Unfit,
    is_flag,
)

TEXT_SHOWN_MAX = 60


class Mismatch(Exception):
    """A part of a value is not what its hint asks for. `path` leads there, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []

    def __str__(self) -> str:
        path = shown_path(self.path)
        return f"{path}: {self.reason}" if path else self.reason


def expected(what: str, value: Any) -> Mismatch:
    """Something else was expected."""
    return Mismatch(f"expected {what}, got {shown(value)}")


def kind_of(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A JSON value in few words: itself when it is short."""
    if isinstance(value, (dict, list)):
        return kind_of(value)
    text = json.dumps(value)
    return text if len(text) <= TEXT_SHOWN_MAX else f"{text[:TEXT_SHOWN_MAX]}…"


def converter(shape: Shape) -> Convert | None:
    """What turns JSON into values of this shape; None when there is nothing to do.

    The converter raises Mismatch.
    """
    if isinstance(shape, Anything):
        return None
    if shape.convert is None:
        shape.convert = _made(shape)
    return shape.convert


def _made(shape: Shape) -> Convert:
    return MAKERS[type(shape)](shape)


def _unfit(shape: Unfit) -> Convert:
    def refuse(value: Any) -> Any:
        raise Mismatch(shape.why)

    return refuse


def words(shape: Shape) -> str:
    """What fits a shape, for a message."""
    if isinstance(shape, Scalar):
        return EXPECTED[shape.kind]
    if isinstance(shape, Choice):
        return f"one of {', '.join(shown(value) for value, _ in shape.pairs)}" if len(shape.pairs) > 1 else _only(shape)
    if isinstance(shape, (Items, Fixed)):
        return "an array"
    if isinstance(shape, (Record, Model)):
        return f"an object ({shape.cls.__name__})"
    if isinstance(shape, OneOf):
        return " or ".join(dict.fromkeys(words(member) for member in shape.members))
    return "an object" if isinstance(shape, Table) else "something else"


def _only(shape: Choice) -> str:
    return shown(shape.pairs[0][0]) if shape.pairs else "nothing"


EXPECTED: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    datetime: "a date and time (2030-01-31T12:00:00Z)",
    date: "a date (2030-01-31)",
    time: "a time (12:00:00)",
    timedelta: "a number of milliseconds",
    Decimal: "a decimal number as text",
    UUID: "a UUID as text",
    PurePath: "a path as text",
    bytes: "bytes as base64 text",
}


def scalar(shape: Scalar, exact: bool = False) -> Convert:
    """The converter of a scalar; `exact` keeps integers and other numbers apart."""
    kind, make = shape.kind, shape.make
    if kind in (type(None), bool, str):
        plain_kind = _of_type(kind)
        return plain_kind if make is None else lambda value: _built(make, plain_kind(value), value)
    read = EXACT[kind] if exact and kind in EXACT else READERS[kind]

    def convert(value: Any) -> Any:
        try:
            # True is an int in Python, but not a number in JSON.
            found = NotImplemented if isinstance(value, bool) else read(value)
        except (ValueError, OverflowError, InvalidOperation):
            found = NotImplemented
        if found is NotImplemented:
            raise expected(EXPECTED[kind], value)
        return found

    return convert if make is None else lambda value: _built(make, convert(value), value)


def _of_type(kind: type) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise expected(EXPECTED[kind], value)
        return value

    return convert


def _built(make: Callable[..., Any], argument: Any, value: Any) -> Any:
    try:
        return make(argument)
    except (ValueError, TypeError) as error:
        raise Mismatch(f"{getattr(make, '__name__', 'its class')} refuses {shown(value)}: {error}") from None


def _integer(value: Any) -> Any:
    if type(value) is int:
        return value
    # 3.0 is an integer to JSON Schema, and to every other language.
    return int(value) if type(value) is float and value.is_integer() else NotImplemented


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) else NotImplemented


FRACTION = re.compile(r"\.(\d+)")


def _datetime(value: Any) -> Any:
    """ISO 8601, also in the forms that Python 3.10 does not read: `Z`, and fractions that are not 3 or 6 digits."""
    if not isinstance(value, str):
        return NotImplemented
    text = value[:-1] + "+00:00" if value[-1:] in ("Z", "z") else value
    return datetime.fromisoformat(FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text, count=1))


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return NotImplemented
    text = value[:-1] + "+00:00" if value[-1:] in ("Z", "z") else value
    return time.fromisoformat(FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text, count=1))


def _timedelta(value: Any) -> Any:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return NotImplemented
    return timedelta(milliseconds=value)


def _decimal(value: Any) -> Any:
    return Decimal(repr(value) if isinstance(value, float) else value) if isinstance(value, (str, int, float)) else None


READERS: dict[type, Convert] = {
    int: _integer,
    float: _float,
    datetime: _datetime,
    date: lambda value: date.fromisoformat(value) if isinstance(value, str) else NotImplemented,
    time: _time,
    timedelta: _timedelta,
    Decimal: lambda value: NotImplemented if (read := _decimal(value)) is None else read,
    UUID: lambda value: UUID(value) if isinstance(value, str) else NotImplemented,
    bytes: lambda value: base64.b64decode(value, validate=True) if isinstance(value, str) else NotImplemented,
    PurePath: lambda value: value if isinstance(value, str) else NotImplemented,
}
EXACT: dict[type, Convert] = {
    int: lambda value: value if type(value) is int else NotImplemented,
    float: lambda value: value if type(value) is float else NotImplemented,
}


def _choice(shape: Choice) -> Convert:
    # By type as well: 1 equals True, and 1.0.
    scalars = [pair for pair in reversed(shape.pairs) if not isinstance(pair[0], (dict, list))]
    by_json = {(type(json_value), json_value): meant for json_value, meant in scalars}
    others = [pair for pair in shape.pairs if isinstance(pair[0], (dict, list))]
    combine = shape.cls if is_flag(shape.cls) else None

    def convert(value: Any) -> Any:
        if isinstance(value, (dict, list)):
            for json_value, meant in others:
                if json_value == value:
                    return meant
        else:
            found = by_json.get((type(value), value), NotImplemented)
            if found is not NotImplemented:
                return found
            if combine is not None and type(value) is int:
                return _built(combine, value, value)
        raise expected(words(shape), value)

    return convert


def _items(shape: Items) -> Convert:
    convert_item, make = converter(shape.item), shape.make

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise expected("an array", value)
        if convert_item is None:
            return value if make is list else _collected(make, value)
        items = []
        for item in value:
            try:
                items.append(convert_item(item))
            except Mismatch as mismatch:
                mismatch.path.append(len(items))
                raise
        return items if make is list else _collected(make, items)

    return convert


def _collected(make: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return make(items)
    except TypeError as error:  # An object cannot be in a set.
        raise Mismatch(str(error)) from None


def _fixed(shape: Fixed) -> Convert:
    converters = [converter(item) for item in shape.items]
    least, most = shape.required, len(converters)
    count = str(most) if least == most else f"{least} to {most}"

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise expected("an array", value)
        if not least <= len(value) <= most:
            raise Mismatch(f"expected an array of {count} items, got {len(value)}")
        items = []
        for index, (item, convert_item) in enumerate(zip(value, converters, strict=False)):
            items.append(_inner(convert_item, item, index))
        return shape.make(items)

    return convert


def _inner(convert: Convert | None, value: Any, at: str | int) -> Any:
    if convert is None:
        return value
    try:
        return convert(value)
    except Mismatch as mismatch:
        mismatch.path.append(at)
        raise


def _table(shape: Table) -> Convert:
    convert_key, convert_value, make = _key(shape.key), converter(shape.value), shape.make

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise expected("an object", value)
        made = value
        if convert_key is not None or convert_value is not None:
            made = {
                (key if convert_key is None else _inner(convert_key, key, key)): _inner(convert_value, inner, key)
                for key, inner in value.items()
            }
        return made if make is None else make(made)

    return convert


# What stands in a key is one number or word.
_KEYS = json.JSONDecoder()


def _key(shape: Shape) -> Convert | None:
    """Keys are text; where the hint asks for something else, it stands there as JSON: `{"1": …}`, `{"true": …}`."""
    if isinstance(shape, Scalar) and shape.kind is str and shape.make is None:
        return None
    convert = converter(shape)
    if convert is None:
        return None

    def convert_key(key: str) -> Any:
        try:
            return convert(key)
        except Mismatch as mismatch:
            try:
                meant = _KEYS.decode(key)
                if not isinstance(meant, (str, list, dict)):
                    return convert(meant)
            except (Mismatch, ValueError):
                pass
            raise mismatch from None

    return convert_key


def _record(shape: Record) -> Convert:
    # Known before its members are, since they may lead back to it.
    plans: list[tuple[Member, Convert | None]] = []

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise expected(words(shape), value)
        arguments: dict[str, Any] = dict(value) if shape.keeps_rest else {}
        for member, convert_member in plans:
            name = member.name
            if name in value:
                inner = value[name]
                arguments[member.argument] = inner if convert_member is None else _inner(convert_member, inner, name)
            elif member.required:
                raise Mismatch(f"{segment(name)} is missing")
        return arguments if shape.keeps_rest else _constructed(shape.cls, arguments)

    shape.convert = convert
    plans.extend((member, converter(member.shape)) for member in shape.members)
    return convert


def _constructed(cls: type, arguments: dict[str, Any]) -> Any:
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        raise Mismatch(f"{cls.__name__} refuses it: {error}") from None


def _one_of(shape: OneOf) -> Convert:
    kinds = {member.kind for member in shape.members if isinstance(member, Scalar)}
    both = {int, float} <= kinds
    records = [member for member in shape.members if isinstance(member, Record)]
    converters: list[tuple[set[str] | None, Convert | None]] = []

    def convert(value: Any) -> Any:
        later: list[Convert | None] = []
        deep: list[Mismatch] = []
        for names, attempt in converters:
            # A record that knows all members is preferred to one that would drop some.
            if names is not None and isinstance(value, dict) and not names.issuperset(value):
                later.append(attempt)
                continue
            try:
                return value if attempt is None else attempt(value)
            except Mismatch as mismatch:
                deep.append(mismatch)
        for attempt in later:
            try:
                return value if attempt is None else attempt(value)
            except Mismatch as mismatch:
                deep.append(mismatch)
        raise _best(deep, words(shape), value)

    shape.convert = convert
    for member in shape.members:
        names = None
        if isinstance(member, Record) and len(records) > 1:
            names = {inner.name for inner in member.members}
        made = scalar(member, exact=both) if isinstance(member, Scalar) else converter(member)
        converters.append((names, made))
    return convert


def _best(mismatches: list[Mismatch], what: str, value: Any) -> Mismatch:
    """The error when no member fits: that of the one member that got into the value, or else a list of all."""
    inside = [m for m in mismatches if m.path or m.reason.endswith("is missing") or "refuses it" in m.reason]
    return inside[0] if len(inside) == 1 else expected(what, value)


def _model(shape: Model) -> Convert:
    cls = shape.cls
    read = getattr(cls, "model_validate", None) or cls.parse_obj

    def convert(value: Any) -> Any:
        try:
            return read(value)
        except (ValueError, TypeError) as error:  # pydantic's own is a ValueError.
            raise Mismatch(f"{a(cls.__name__)} refuses it: {error}") from None

    return convert


MAKERS: dict[type[Shape], Callable[[Any], Convert]] = {
    Scalar: scalar,
    Choice: _choice,
    Items: _items,
    Fixed: _fixed,
    Table: _table,
    Record: _record,
    OneOf: _one_of,
    Model: _model,
    Unfit: _unfit,
}
