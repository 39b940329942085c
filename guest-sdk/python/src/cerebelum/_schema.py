"""JSON Schemas (draft 2020-12) from type hints. Whatever decoding accepts, the schema accepts."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from . import _values
from ._plain import NotPlain, plain
from ._types import (
    Choice,
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
    description_of,
    inner_shapes,
    is_flag,
    name_of,
    shape_of,
)

if TYPE_CHECKING:
    from ._signature import Signature
    from .workflows import AnyWorkflow

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# Limits a workflow's clean-up after a cancel, in its input schema.
CANCEL_GRACE_KEYWORD = "x-cerebelum-cancel-grace-ms"
# The plan of a timeline, in the same place.
PLAN_KEYWORD = "x-cerebelum-plan"
# A schema; True admits everything.
Schema = dict[str, Any] | bool


def of_signature(signature: Signature) -> tuple[str | None, str | None]:
    """The schemas of what a function takes and returns, as JSON text; None where everything is admitted.

    Hints that cannot be resolved give None too; `problems` names them.
    """
    try:
        signature.hints  # noqa: B018
    except Exception:
        return None, None
    for parameter in signature.parameters:
        _values.prepare(parameter.hint)
    _values.prepare(signature.returns)
    return _text(_input(signature)), _text(_root(lambda writer: writer.of(shape_of(signature.returns))))


def of_workflow(workflow: AnyWorkflow) -> tuple[str | None, str | None]:
    """The schemas of what a workflow takes and returns. A timeline has none: its steps' hints speak for themselves.

    The first one also tells the engine how long clean-up may take after a cancel, if that is limited, and the plan of a
    timeline.
    """
    takes, gives = (None, None) if workflow.is_timeline else of_signature(workflow.signature)
    more: dict[str, Any] = {}
    if workflow.cancel_grace_ms is not None:
        more[CANCEL_GRACE_KEYWORD] = workflow.cancel_grace_ms
    if workflow.plan is not None:
        more[PLAN_KEYWORD] = workflow.plan
    if not more:
        return takes, gives
    members = {} if takes is None else json.loads(takes)
    members = members if isinstance(members, dict) else {}
    return json.dumps(members | more), gives


def of_hint(hint: Any) -> dict[str, Any] | None:
    """The schema of one hint; None when it admits everything."""
    schema = _root(lambda writer: writer.of(shape_of(hint)))
    return schema if isinstance(schema, dict) else None


def problems(signature: Signature) -> list[str]:
    """The reasons why the hints of a function cannot be decoded or encoded, in sentences."""
    try:
        hints = signature.hints
    except Exception as error:
        return [f"its type hints cannot be resolved ({error}): define or import the name at module level"]
    found = []
    for name in signature.parameter_names:
        found += [f"parameter '{name}'{at}: {why}" for at, why in unfit(shape_of(hints.get(name, Any)))]
    return found + [f"what it returns{at}: {why}" for at, why in unfit(shape_of(hints.get("return", Any)))]


def unfit(shape: Shape) -> list[tuple[str, str]]:
    """The parts of a shape that JSON cannot become: where each is, and why."""
    found: list[tuple[str, str]] = []
    seen: set[int] = set()
    left = [("", shape)]
    while left:
        at, current = left.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Unfit):
            found.append((at, current.why))
        left.extend((at + place, inner) for place, inner in inner_shapes(current))
    return found


def _input(signature: Signature) -> Schema:
    parameters = signature.parameters
    if not parameters:
        return True
    if len(parameters) == 1:
        only = parameters[0]

        def single(writer: Writer) -> Schema:
            schema = writer.member(Member(only.name, shape_of(only.hint), only.required, only.name, only.default))
            # Without an input, the default counts.
            bare = schema if only.required else any_of([schema, {"type": "null"}])
            if bare is True or not signature.only_by_name:
                return bare
            # An error then names the form that is meant, which `anyOf` would not.
            is_named = {"type": "object", "required": [only.name], "maxProperties": 1}
            return {"if": is_named, "then": {"properties": {only.name: schema}}, "else": bare}

        return _root(single)
    members = [
        Member(p.name, shape_of(p.hint), p.required, p.name, p.default, description_of(p.hint)) for p in parameters
    ]
    return _root(lambda writer: writer.object(members))


def _root(write: Callable[[Writer], Schema]) -> Schema:
    writer = Writer()
    schema = write(writer)
    if isinstance(schema, bool):
        return schema
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if set(schema) == {"$ref"} and name in writer.definitions:
        inlined = writer.definitions[name]
        if schema["$ref"] not in _references(writer.definitions):
            del writer.definitions[name]
            schema = inlined
    definitions = {"$defs": writer.definitions} if writer.definitions else {}
    return {"$schema": DRAFT, **schema, **definitions}


def _references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*(_references(inner) for inner in schema.values()))
    if isinstance(schema, list):
        return set().union(*(_references(inner) for inner in schema))
    return set()


def _text(schema: Schema) -> str | None:
    return json.dumps(schema, separators=(",", ":")) if isinstance(schema, dict) else None


def any_of(schemas: list[Schema]) -> Schema:
    """What admits whatever one of these admits, as short as it can be said."""
    if any(not isinstance(schema, dict) for schema in schemas):
        return True
    flat: list[Any] = []
    for schema in schemas:
        parts = schema["anyOf"] if isinstance(schema, dict) and set(schema) == {"anyOf"} else [schema]
        flat += [part for part in parts if part not in flat]
    bare = [schema["type"] for schema in flat if set(schema) == {"type"} and isinstance(schema["type"], str)]
    if len(bare) == len(flat):
        return {"type": bare[0] if len(bare) == 1 else bare}
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


# How dates and times of ISO 8601 begin: `2030-01`, `203001`, `2030-W05`; `12`, `T12`.
DAY = "^[0-9]{4}-?[0-9W][0-9]"
HOUR = "^T?[0-9]{2}"
SCALARS: dict[type, dict[str, Any]] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    # The engine ignores formats and enforces patterns. These admit every form that decoding reads.
    datetime: {"type": "string", "format": "date-time", "pattern": DAY},
    date: {"type": "string", "format": "date", "pattern": DAY},
    time: {"type": "string", "format": "time", "pattern": HOUR},
    timedelta: {"type": "number", "description": "milliseconds"},
    Decimal: {"type": ["string", "number"], "format": "decimal"},
    UUID: {"type": "string", "format": "uuid"},
    PurePath: {"type": "string"},
    bytes: {"type": "string", "contentEncoding": "base64", "format": "byte"},
}


class Writer:
    """Writes the schemas of shapes; named classes become definitions."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._writers: dict[type[Shape], Callable[[Any], Schema]] = {
            Scalar: lambda shape: dict(SCALARS[shape.kind]),
            Choice: self._choice,
            Items: lambda shape: {"type": "array", **self._inside("items", shape.item)},
            Fixed: self._fixed,
            Table: self._table,
            Record: lambda shape: self._defined(shape, shape.cls, lambda: self._record(shape)),
            OneOf: self._one_of,
            Model: lambda shape: self._defined(shape, shape.cls, lambda: self._model(shape.cls)),
        }

    def of(self, shape: Shape) -> Schema:
        """The schema of a shape."""
        write = self._writers.get(type(shape))
        # Decoding refuses it, with a better message.
        return True if write is None else write(shape)

    def object(self, members: list[Member]) -> dict[str, Any]:
        """The schema of an object with these members. Others are admitted, as decoding does not mind them."""
        required = [member.name for member in members if member.required]
        return {
            "type": "object",
            "properties": {member.name: self.member(member) for member in members},
            **({"required": required} if required else {}),
        }

    def member(self, member: Member) -> Schema:
        """The schema of a member, with its description and default."""
        schema = self.of(member.shape)
        notes: dict[str, Any] = {}
        if member.description:
            notes["description"] = member.description
        if member.default is not inspect.Parameter.empty:
            # It is informative only: a default that is not JSON is left out.
            with contextlib.suppress(NotPlain, RecursionError):
                notes["default"] = plain(member.default)
        if not notes:
            return schema
        return {**schema, **notes} if isinstance(schema, dict) else notes

    def _inside(self, keyword: str, shape: Shape) -> dict[str, Any]:
        schema = self.of(shape)
        return {keyword: schema} if isinstance(schema, dict) else {}

    def _choice(self, shape: Choice) -> Schema:
        if is_flag(shape.cls):
            return {"type": "integer", "description": " | ".join(member.name for _, member in shape.pairs)}
        values = [json_value for json_value, _ in shape.pairs]
        if shape.cls is None:
            return {"const": values[0]} if len(values) == 1 else {"enum": values}
        return self._defined(shape, shape.cls, lambda: {**_described(shape.cls), "enum": values})

    def _one_of(self, shape: OneOf) -> Schema:
        either = any_of([self.of(member) for member in shape.members])
        name, records = tagged(shape.members)
        if either is True or not records:
            return either
        # An error then names the member that the tag selects, which `anyOf` would not.
        chosen = [{"if": _has(name, value), "then": self.of(record)} for value, record in records.items()]
        named = {"properties": {name: {"enum": list(records)}}, "allOf": chosen}
        return {"if": {"type": "object", "required": [name]}, "then": named, "else": either}

    def _fixed(self, shape: Fixed) -> Schema:
        # Each at its place, none more; an empty list of places is no schema.
        places = {"prefixItems": [self.of(item) for item in shape.items]} if shape.items else {}
        return {"type": "array", **places, "minItems": shape.required, "maxItems": len(shape.items)}

    def _table(self, shape: Table) -> Schema:
        names = {}
        if isinstance(shape.key, Choice) and all(isinstance(key, str) for key, _ in shape.key.pairs):
            names = {"propertyNames": {"enum": [key for key, _ in shape.key.pairs]}}
        return {"type": "object", **self._inside("additionalProperties", shape.value), **names}

    def _record(self, shape: Record) -> dict[str, Any]:
        return {**_described(shape.cls), **self.object(shape.members)}

    def _model(self, cls: Any) -> Any:
        describe = getattr(cls, "model_json_schema", None) or getattr(cls, "schema", None)
        if describe is None:
            return {"type": "object"}
        schema = dict(describe(ref_template="#/$defs/{model}"))
        for keyword in ("$defs", "definitions"):
            for name, definition in schema.pop(keyword, {}).items():
                self.definitions.setdefault(name, definition)
        return schema

    def _defined(self, shape: Shape, cls: Any, write: Any) -> Schema:
        name = self._names.get(id(shape))
        if name is None:
            name = self._free(cls.__name__)
            self._names[id(shape)] = name
            # Known before it is written, since it may refer to itself.
            self.definitions[name] = {}
            self.definitions[name] = write()
        return {"$ref": f"#/$defs/{name}"}

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self.definitions:
            number += 1
            free = f"{name}{number}"
        return free


def tagged(members: list[Shape]) -> tuple[str, dict[str, Record]]:
    """The name of a member whose text says which record of a union is meant, and the records by that text; no records
    when there is no such member, or when another sort of object fits as well."""
    records = [member for member in members if isinstance(member, Record)]
    if any(not isinstance(member, (Record, Scalar, Items, Fixed)) for member in members) or len(records) < 2:
        return "", {}
    for candidate in records[0].members:
        by_text = [(text, record) for record in records for text in _texts(record, candidate.name)]
        tells_all_apart = len({id(record) for _, record in by_text}) == len(records)
        if tells_all_apart and len(dict(by_text)) == len(by_text):
            return candidate.name, dict(by_text)
    return "", {}


def _texts(record: Record, name: str) -> list[str]:
    """The texts that a member of a record may be; none when it may be anything else."""
    shapes = [member.shape for member in record.members if member.name == name]
    texts = [text for text, _ in shapes[0].pairs] if shapes and isinstance(shapes[0], Choice) else []
    return texts if all(isinstance(text, str) for text in texts) else []


def _has(name: str, value: str) -> Schema:
    return {"properties": {name: {"const": value}}}


def _described(cls: Any) -> Mapping[str, Any]:
    """Title and description of a class, without docstrings that Python generated."""
    text = inspect.cleandoc(cls.__doc__) if isinstance(cls.__doc__, str) else ""
    generated = text in GENERATED or text.startswith(f"{name_of(cls)}(")
    return {"title": name_of(cls), **({"description": text} if text and not generated else {})}


# The docstring that some versions give to every Enum.
GENERATED = ("An enumeration.", "Create a collection of name/value pairs.")
