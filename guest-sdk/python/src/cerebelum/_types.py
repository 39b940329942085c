"""What a type hint means for JSON: one of a few shapes, from which values are decoded and schemas are written."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from inspect import Parameter
from pathlib import PurePath
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from ._plain import NotPlain, plain

# A converter, kept with the shape it was made from.
Convert = Callable[[Any], Any]


@dataclasses.dataclass(eq=False)
class Shape:
    """The base of all shapes."""

    convert: Convert | None = dataclasses.field(default=None, init=False, repr=False)


@dataclasses.dataclass(eq=False)
class Anything(Shape):
    """Any JSON, as it is."""


@dataclasses.dataclass(eq=False)
class Scalar(Shape):
    """One text, number, boolean or null. `make` is the class when it is one derived from `kind`."""

    kind: type
    make: Callable[[Any], Any] | None = None


@dataclasses.dataclass(eq=False)
class Choice(Shape):
    """One of these: pairs of the JSON and what it stands for."""

    pairs: list[tuple[Any, Any]]
    cls: type[Enum] | None = None


@dataclasses.dataclass(eq=False)
class Items(Shape):
    """An array of equals."""

    item: Shape
    make: Callable[[list[Any]], Any]


@dataclasses.dataclass(eq=False)
class Fixed(Shape):
    """An array with a place for each: tuples with types, NamedTuples."""

    items: list[Shape]
    required: int
    make: Callable[[list[Any]], Any]


@dataclasses.dataclass(eq=False)
class Table(Shape):
    """An object with arbitrary keys."""

    key: Shape
    value: Shape
    make: Callable[[dict[Any, Any]], Any] | None = None


@dataclasses.dataclass
class Member:
    """A member of a record."""

    name: str
    shape: Shape
    required: bool
    # The parameter's name, where it differs.
    argument: str
    default: Any = Parameter.empty
    description: str | None = None


@dataclasses.dataclass(eq=False)
class Record(Shape):
    """An object with named members: dataclasses, attrs classes, TypedDicts. A TypedDict keeps unknown members."""

    cls: type
    members: list[Member]
    keeps_rest: bool = False


@dataclasses.dataclass(eq=False)
class OneOf(Shape):
    """The first of these that fits."""

    members: list[Shape]


@dataclasses.dataclass(eq=False)
class Model(Shape):
    """A class that converts and describes itself, as pydantic's do."""

    cls: Any


@dataclasses.dataclass(eq=False)
class Unfit(Shape):
    """Nothing that JSON could become."""

    why: str


LISTS: dict[Any, Callable[[list[Any]], Any]] = dict.fromkeys(
    (
        list,
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Iterable,
        collections.abc.Collection,
    ),
    list,
) | {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
    collections.deque: collections.deque,
}
TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)
SCALARS = (type(None), bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID)
WRAPPERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")

# By identity: hints that are equal can differ in the order of a union's members. The hint is kept, so that its id is.
_known: dict[int, tuple[Any, Shape]] = {}
_records: dict[Any, Record] = {}
_KNOWN_MAX = 10_000


def shape_of(hint: Any) -> Shape:
    """The shape that a type hint means; `Unfit` for what JSON cannot become."""
    known = _known.get(id(hint))
    if known is not None and known[0] is hint:
        return known[1]
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    shape = _made(hint)
    _known[id(hint)] = (hint, shape)
    return shape


def _made(hint: Any) -> Shape:  # noqa: PLR0911 - one line for each sort of hint
    if hint is Any or hint is object or hint is Parameter.empty or isinstance(hint, TypeVar):
        return Anything()
    if hint is None:
        return Scalar(type(None))
    if isinstance(hint, (str, ForwardRef)):
        name = hint if isinstance(hint, str) else hint.__forward_arg__
        return Unfit(f"the name {name!r} is not defined where it is used")
    origin = get_origin(hint)
    if origin is None:
        return _of_class(hint)
    args = get_args(hint)
    if origin is typing.Annotated or getattr(origin, "_name", None) in WRAPPERS:
        return shape_of(args[0])
    if origin is Union or origin is types.UnionType:
        return OneOf([shape_of(member) for member in args])
    if origin is Literal:
        return Choice([(_literal(value), value) for value in args])
    if hasattr(origin, "__value__"):
        return shape_of(substituted(origin.__value__, dict(zip(origin.__type_params__, args, strict=False))))
    return _of_generic(hint, origin, args)


def _of_generic(hint: Any, origin: Any, args: tuple[Any, ...]) -> Shape:
    if origin is tuple:
        return _tuple(args)
    if origin in LISTS:
        return Items(shape_of(args[0]) if args else Anything(), LISTS[origin])
    if origin in TABLES:
        key, value = args or (str, Any)
        return Table(shape_of(key), shape_of(value), collections.OrderedDict if origin is TABLES[3] else None)
    if origin is collections.defaultdict:
        return Unfit("a defaultdict cannot be made from JSON: use dict")
    if is_record(origin):
        return _record(origin, dict(zip(getattr(origin, "__parameters__", ()), args, strict=False)), (origin, args))
    return _unfit(hint)


def _of_class(hint: Any) -> Shape:  # noqa: PLR0911 - one line for each sort of hint
    if hasattr(hint, "__supertype__"):
        return shape_of(hint.__supertype__)
    if hasattr(hint, "__value__") and not isinstance(hint, type):
        return shape_of(hint.__value__)
    if not isinstance(hint, type):
        return _unfit(hint)
    if hint in SCALARS:
        return Scalar(hint)
    if issubclass(hint, Enum):
        return _enum(hint)
    if is_record(hint):
        return _record(hint, {}, hint)
    if is_model(hint):
        return Model(hint)
    return _of_derived(hint)


def _of_derived(hint: type) -> Shape:  # noqa: PLR0911 - one line for each sort of hint
    if hint in LISTS:
        return Items(Anything(), LISTS[hint])
    if hint in TABLES:
        return Table(Anything(), Anything())
    if issubclass(hint, PurePath):
        return Scalar(PurePath, hint)
    if issubclass(hint, tuple):
        return _tuple(()) if hint is tuple else _named_tuple(hint)
    if hint is bytearray:
        return Scalar(bytes, bytearray)
    for kind in (int, float, str, bytes):
        if issubclass(hint, kind):
            return Scalar(kind, hint)
    if issubclass(hint, list):
        return Items(Anything(), hint)
    if issubclass(hint, dict) and hint is not collections.defaultdict:
        return Table(Anything(), Anything(), hint)
    return _unfit(hint)


def _unfit(hint: Any) -> Unfit:
    name = name_of(hint)
    if hint is memoryview:
        return Unfit("JSON cannot become memoryview: use bytes")
    return Unfit(f"JSON cannot become {name}: use a dataclass, a TypedDict, an Enum or plain types")


def _literal(value: Any) -> Any:
    return plain(value) if isinstance(value, Enum) else value


def _enum(cls: type[Enum]) -> Shape:
    try:
        return Choice([(plain(member.value), member) for member in cls], cls)
    except NotPlain as trouble:
        return Unfit(f"a value of the Enum {cls.__name__} {trouble.reason}")


def _tuple(args: tuple[Any, ...]) -> Shape:
    if not args:
        return Items(Anything(), tuple)
    if len(args) == 2 and args[1] is Ellipsis:
        return Items(shape_of(args[0]), tuple)
    items = [shape_of(item) for item in args if item != ()]
    return Fixed(items, len(items), tuple)


def _named_tuple(cls: Any) -> Shape:
    if not hasattr(cls, "_fields"):
        return Items(Anything(), cls)
    hints = hints_of(cls)
    if isinstance(hints, Unfit):
        return hints
    items = [shape_of(hints.get(name, Any)) for name in cls._fields]
    return Fixed(items, len(items) - len(cls._field_defaults), lambda values: cls(*values))


def is_model(cls: Any) -> bool:
    """Whether a class converts JSON itself, as pydantic's models do."""
    return isinstance(cls, type) and (hasattr(cls, "model_validate") or hasattr(cls, "parse_obj"))


def is_typed_dict(cls: Any) -> bool:
    """Whether it is a TypedDict, of whichever module."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def is_record(cls: Any) -> bool:
    """Whether a class has named members."""
    if not isinstance(cls, type) or is_model(cls):
        return False
    return dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__") or is_typed_dict(cls)


def hints_of(cls: type) -> dict[str, Any] | Unfit:
    """The resolved hints of a class."""
    try:
        return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except Exception as error:
        return Unfit(f"the type hints of {cls.__name__} cannot be resolved: {error}")


def _record(cls: type, variables: dict[Any, Any], key: Any) -> Shape:
    try:
        known = _records.get(key)
    except TypeError:  # An argument without a hash: it cannot be recursive in a way that matters.
        known, key = None, object()
    if known is not None:
        return known
    hints = hints_of(cls)
    if isinstance(hints, Unfit):
        return hints
    # Known before its members are, since they may refer to it.
    record = _records[key] = Record(cls, [], is_typed_dict(cls))
    record.members.extend(_members(cls, {name: substituted(hint, variables) for name, hint in hints.items()}))
    return record


def _members(cls: Any, hints: dict[str, Any]) -> Iterator[Member]:
    if is_typed_dict(cls):
        for name, hint in hints.items():
            wrappers = {getattr(origin, "_name", None) for origin in _wrappers(hint)}
            required = name in cls.__required_keys__ or "Required" in wrappers
            yield _member(name, hint, required and "NotRequired" not in wrappers)
        return
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if not field.init:
                continue
            default = field.default if field.default is not dataclasses.MISSING else Parameter.empty
            if field.default_factory in (list, dict, tuple):
                default = field.default_factory()
            required = default is Parameter.empty and field.default_factory is dataclasses.MISSING
            description = field.metadata.get("description")
            yield _member(field.name, hints.get(field.name, Any), required, default=default, description=description)
        return
    for attribute in cls.__attrs_attrs__:
        if attribute.init:
            argument = getattr(attribute, "alias", None) or attribute.name.lstrip("_")
            # Without importing attrs, its word for "no default" is known by how it shows itself.
            required = repr(attribute.default) == "NOTHING"
            yield _member(attribute.name, hints.get(attribute.name, Any), required, argument=argument)


def _member(
    name: str,
    hint: Any,
    required: bool,
    *,
    argument: str | None = None,
    default: Any = Parameter.empty,
    description: str | None = None,
) -> Member:
    return Member(name, shape_of(hint), required, argument or name, default, description or description_of(hint))


def _wrappers(hint: Any) -> Iterator[Any]:
    origin = get_origin(hint)
    while origin is typing.Annotated or getattr(origin, "_name", None) in WRAPPERS:
        yield origin
        hint = get_args(hint)[0]
        origin = get_origin(hint)


def description_of(hint: Any) -> str | None:
    """The text in `Annotated[int, "how many"]`."""
    while get_origin(hint) is not None:
        if get_origin(hint) is typing.Annotated:
            return next((note for note in get_args(hint)[1:] if isinstance(note, str)), None)
        if getattr(get_origin(hint), "_name", None) not in WRAPPERS:
            return None
        hint = get_args(hint)[0]
    return None


def substituted(hint: Any, variables: dict[Any, Any]) -> Any:
    """The hint with type variables replaced."""
    if isinstance(hint, TypeVar):
        return variables.get(hint, hint)
    inner = getattr(hint, "__parameters__", ()) if variables and get_origin(hint) is not None else ()
    return hint[tuple(variables.get(variable, variable) for variable in inner)] if inner else hint


def returned(hint: Any) -> Any:
    """The hint of what a caller is given by what returns `hint`: a dict may be an envelope, which is opened."""
    if is_typed_dict(hint) and set(hint.__annotations__) <= {"ok", "error"} and "ok" in hint.__annotations__:
        resolved = hints_of(hint)
        return Any if isinstance(resolved, Unfit) else resolved["ok"]
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        members = tuple(returned(member) for member in get_args(hint))
        return Any if any(member is Any for member in members) else Union[members]  # noqa: UP007 - of a tuple
    if hint in TABLES:
        return Any
    if origin in TABLES:
        value = get_args(hint)[1]
        return Any if value is Any or value is object else Union[hint, value, Any]  # noqa: UP007 - of names
    return hint


def name_of(hint: Any) -> str:
    """A hint as one writes it."""
    if isinstance(hint, type) and get_origin(hint) is None:
        return hint.__name__
    return repr(hint).replace("typing.", "")


def is_flag(cls: type[Enum] | None) -> bool:
    """Whether values of an Enum combine."""
    return cls is not None and issubclass(cls, Flag)


def may_have(shape: Shape, name: str) -> bool:
    """Whether an object with a member of this name can be a value of a shape."""
    if isinstance(shape, OneOf):
        return any(may_have(member, name) for member in shape.members)
    if isinstance(shape, Record):
        return shape.keeps_rest or any(member.name == name for member in shape.members)
    if isinstance(shape, Choice):
        return any(isinstance(value, dict) for value, _ in shape.pairs)
    return not isinstance(shape, Scalar | Items | Fixed)


def inner_shapes(shape: Shape) -> list[tuple[str, Shape]]:
    """The shapes directly inside, each with its place."""
    if isinstance(shape, Items):
        return [("[]", shape.item)]
    if isinstance(shape, Fixed):
        return [(f"[{index}]", item) for index, item in enumerate(shape.items)]
    if isinstance(shape, Table):
        return [(" (a key)", shape.key), (" (a value)", shape.value)]
    if isinstance(shape, Record):
        return [(f".{member.name}", member.shape) for member in shape.members]
    if isinstance(shape, OneOf):
        return [("", member) for member in shape.members]
    return []
