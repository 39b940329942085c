"""Values: how Python values become JSON, and back by type hints."""

# ruff: noqa: UP007, UP045 - both ways of writing a union are tested

import enum
import importlib
import json
import math
import random
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import pytest

from cerebelum import _values
from cerebelum._plain import is_plain
from cerebelum.errors import SerializationError

WHAT = "the input of step 'x'"
T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    NONE = None


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Mail(str):
    def __new__(cls, text: str) -> "Mail":
        if "@" not in text:
            raise ValueError("no @ in it")
        return super().__new__(cls, text)


@dataclass
class Item:
    name: str
    price: Decimal = Decimal("0.10")
    tags: list[str] = field(default_factory=list)


@dataclass
class Order:
    items: list[Item]
    when: datetime
    color: Color = Color.RED
    note: str | None = None
    parent: Optional["Order"] = None


@dataclass
class Page(Generic[T]):
    items: list[T]
    following: "Page[T] | None" = None


@dataclass
class Near:
    x: int


@dataclass
class Far:
    x: int
    y: int


@dataclass
class Percent:
    value: int

    def __post_init__(self) -> None:
        if self.value > 100:
            raise ValueError("at most 100")


class Point(NamedTuple):
    x: int
    y: int = 7


class Sized(TypedDict):
    size: str


class Movie(TypedDict, total=False):
    name: str
    year: int


def encode(value: object) -> str:
    return _values.encode(value, "the output of step 'x'")


def decode(value: object, hint: object) -> Any:
    return _values.decode(json.dumps(value), hint, WHAT)


NOON = datetime(2030, 1, 31, 12, 0, 0, 5, timezone(timedelta(hours=2)))
ORDER = Order([Item("a", Decimal("1.50"), ["x"])], NOON, Color.NONE, None, Order([], NOON))

ROUND_TRIPS: list[tuple[object, object]] = [
    (ORDER, Order),
    (Page([Near(1)], Page([])), Page[Near]),
    ({"a": [Item("b")]}, dict[str, list[Item]]),
    ({1: "a", 2: "b"}, dict[int, str]),
    ({True: 1.5}, dict[bool, float]),
    ({date(2030, 1, 1): Size.SMALL}, dict[date, Size]),
    ({Color.RED: 1}, Mapping[Color, int]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ([1, 2], Sequence[int]),
    (Point(1, 2), Point),
    (timedelta(days=400, milliseconds=3), timedelta),
    (timedelta(microseconds=1_500), timedelta),
    (timedelta(days=-3), timedelta),
    (NOON, datetime),
    (datetime(2030, 1, 1), datetime),
    (date(2030, 1, 1), date),
    (time(12, 30, 0, 1, timezone.utc), time),
    (Decimal("1.10"), Decimal),
    (UUID(int=7), UUID),
    (Path("a/b"), Path),
    (Mail("a@b"), Mail),
    (Right.READ | Right.WRITE, Right),
    (None, Optional[int]),
    (3, int | float),
    (3.0, int | float),
    (3.0, Union[float, int]),
    (Far(1, 2), Near | Far),
    (Near(1), Far | Near),
    ("red", Literal["red", 1]),
    (1, Literal[True, 1]),
    (5, UserId),
    (5, Annotated[int, "how many"]),
    (2**200, int),
    ("\u0000\ud800é😀", str),
    ({"name": "m", "more": [1]}, Movie),
    ({"deep": [None, {"a": 1e300}]}, Any),
]


@pytest.mark.parametrize(("value", "hint"), ROUND_TRIPS, ids=lambda part: repr(part)[:40])
def test_a_value_comes_back_as_it_was(value: object, hint: object) -> None:
    back = _values.decode(encode(value), hint, WHAT)
    assert back == value
    assert type(back) is type(value)


def test_random_plain_data_comes_back_and_is_written_as_json_dumps_writes_it() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)

    def data(depth: int) -> object:
        sort = chance.randrange(8 if depth < 6 else 6)
        if sort == 6:
            return [data(depth + 1) for _ in range(chance.randrange(4))]
        if sort == 7:
            return {"".join(chance.choices(string.printable, k=3)): data(depth + 1) for _ in range(4)}
        simple = (None, True, chance.randrange(-(2**70), 2**70), chance.random() * 10.0 ** chance.randrange(300))
        return (*simple, "".join(chance.choices('\\"[]{}\ud800é😀', k=9)), "")[sort]

    for _ in range(300):
        value = data(0)
        assert is_plain(value), seed
        assert encode(value) == json.dumps(value, separators=(",", ":")), seed
        assert _values.parse(encode(value), Any, WHAT) == value, seed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": Size.LARGE, "b": Color.RED}, '{"a":2,"b":"red"}'),
        (MappingProxyType({"a": range(3)}), '{"a":[0,1,2]}'),
        ({None: 1, 1.5: 2, UUID(int=1): 3}, '{"null":1,"1.5":2,"00000000-0000-0000-0000-000000000001":3}'),
        (timedelta(seconds=2), "2000"),
        (timedelta(microseconds=1), "0.001"),
        (NOON, '"2030-01-31T12:00:00.000005+02:00"'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_types_have_one_form_in_json(value: object, text: str) -> None:
    assert encode(value) == text


class Decoder:
    pass


async def forgotten() -> None:
    pass


TROUBLES: list[tuple[object, str]] = [
    ({"items": [1, 2, 3, {"created": Decoder()}]}, ".items[3].created is a Decoder object: use plain data, "),
    (Decoder(), "it is a Decoder object: "),
    (Item("a", tags=[Decoder()]), ".tags[0] is a Decoder object: "),  # type: ignore[list-item]
    ({"a b": {"c": {Decoder()}}}, '["a b"].c[0] is a Decoder object: use plain data, '),
    ({"a": math.nan}, ".a is nan, which JSON does not have: use None or text"),
    ([math.inf], "[0] is inf, which JSON does not have"),
    ({"a": (n for n in [1])}, ".a is a generator, which can be read only once: use list(…)"),
    ({"a": Decoder}, ".a is the class Decoder, not an instance of it"),
    ({"a": print}, ".a is a builtin_function_or_method: call it"),
    ({"a": {(1, 2): 3}}, ".a has a key that is a tuple: keys are text"),
    ([10**5000], "[0] is an integer of about 5001 digits, more than Python writes as text"),
]


@pytest.mark.parametrize(
    ("value", "told"), TROUBLES, ids=lambda part: ascii(part)[:30] if isinstance(part, str) else ""
)
def test_what_is_not_json_is_told_with_its_path(value: object, told: str) -> None:
    with pytest.raises(SerializationError) as caught:
        encode(value)
    assert str(caught.value).startswith(f"the output of step 'x' is not JSON: {told}")
    assert "\n" not in str(caught.value)


def test_a_coroutine_that_nobody_awaited_is_told_so() -> None:
    coroutine = forgotten()
    with pytest.raises(SerializationError, match=r"\.a is a coroutine: await it"):
        encode({"a": coroutine})
    coroutine.close()


def nested(levels: int, make: Any) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = make(value)
    return value


@dataclass
class Link:
    next: Any


@pytest.mark.parametrize("make", [lambda v: [v], lambda v: {"a": v}, Link, lambda v: MappingProxyType({"a": v})])
def test_128_levels_are_a_value_and_129_are_not(make: Any) -> None:
    assert _values.parse(encode(nested(128, make)), Any, WHAT)
    for levels in (129, 100_000):
        with pytest.raises(SerializationError, match="nested deeper than 128 levels, or contains itself"):
            encode(nested(levels, make))


def test_a_value_that_contains_itself_is_refused() -> None:
    twice: list[Any] = []
    twice += [twice, twice]
    loop: dict[str, Any] = {}
    loop["a"] = loop
    for value in (twice, loop):
        with pytest.raises(SerializationError, match="contains itself"):
            encode(value)


@pytest.mark.parametrize(
    ("text", "too_deep"),
    [
        ("[" * 128 + "]" * 128, False),
        ("[" * 129 + "]" * 129, True),
        ('{"a":' * 129 + "1" + "}" * 129, True),
        ("[" * 100_000, True),
        ("[" * 100_000 + "}", True),
        (json.dumps(["[" * 1000, '\\"[' * 200, "\\" * 7, {"]": "{"}]), False),
        (json.dumps([[[]]] * 1000), False),
        ("]" * 1000 + "[" * 200, True),
    ],
)
def test_depth_is_found_without_recursion(text: str, too_deep: bool) -> None:
    assert _values.is_too_deep(text) is too_deep


def test_more_than_a_mebibyte_is_refused_with_its_size() -> None:
    assert encode("x" * ((1 << 20) - 2))
    with pytest.raises(SerializationError, match=r"is 1,048,577 bytes of JSON where at most 1,048,576 are accepted"):
        encode("x" * ((1 << 20) - 1))


def test_text_that_fits_only_without_escapes_goes_without() -> None:
    text = encode("é" * 300_000)
    assert len(text.encode()) == 600_002
    with pytest.raises(SerializationError, match="bytes of JSON"):
        encode("\ud800" + "é" * 300_000)


@pytest.mark.parametrize(
    ("value", "hint", "told"),
    [
        ({"size": 3}, Sized, ".size: expected a string, got 3"),
        ({"items": [{"name": "a"}, {}], "when": "2030-01-01"}, Order, ".items[1]: .name is missing"),
        ({"items": [], "when": "soon"}, Order, '.when: expected a date and time (2030-01-31T12:00:00Z), got "soon"'),
        ({"items": [], "when": 5}, Order, ".when: expected a date and time"),
        (
            {"items": [], "when": "2030-01-01", "color": "blue"},
            Order,
            '.color: expected one of "red", null, got "blue"',
        ),
        (True, int, "expected an integer, got true"),
        (1, bool, "expected true or false, got 1"),
        (1.5, int, "expected an integer, got 1.5"),
        ("1", int, 'expected an integer, got "1"'),
        (10**400, float, "expected a number, got 1000"),
        ([1], dict[str, Any], "expected an object, got an array"),
        (None, dict, "expected an object, got null"),
        ({"a": "x"}, dict[str, int], '.a: expected an integer, got "x"'),
        ({"x": 1}, dict[int, int], '.x: expected an integer, got "x"'),
        ([1], tuple[int, int], "expected an array of 2 items, got 1"),
        ([], Point, "expected an array of 1 to 2 items, got 0"),
        ([[1]], set[Any], "unhashable type: 'list'"),
        ("x", int | None, 'expected an integer or null, got "x"'),
        ({"x": "a"}, Near | None, '.x: expected an integer, got "a"'),
        ({}, Near | Far, "expected an object (Near) or an object (Far), got an object"),
        ({"value": 101}, Percent, "Percent refuses it: at most 100"),
        ("ab", Mail, 'Mail refuses "ab": no @ in it'),
        ("x", Decimal, 'expected a decimal number as text, got "x"'),
        (1e300, timedelta, "expected a number of milliseconds, got 1e+300"),
        ("x", Literal["a"], 'expected "a", got "x"'),
        (1, Literal[True], "expected true, got 1"),
        (4, Right, "Right refuses 4: "),
        ("x", bytes, 'expected bytes as base64 text, got "x"'),
        ("YQ==!", bytes, 'expected bytes as base64 text, got "YQ==!"'),
        (1, bytearray, "expected bytes as base64 text, got 1"),
        ("x", Decoder, "JSON cannot become Decoder: use a dataclass, "),
        ("y" * 500, int, 'expected an integer, got "yyyy'),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_does_not_fit_a_hint_is_told_with_its_path(value: object, hint: object, told: str) -> None:
    with pytest.raises(SerializationError) as caught:
        decode(value, hint)
    assert str(caught.value).startswith(f"{WHAT}: {told}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "hint", "meant"),
    [
        ({"name": "a", "unknown": 1}, Item, Item("a")),
        ({"name": "a", "price": 2.5}, Item, Item("a", Decimal("2.5"))),
        (3.0, int, 3),
        (3, float, 3.0),
        ([1, 2, 1], set[int], {1, 2}),
        ([1], frozenset[int], frozenset({1})),
        ("2030-01-31T12:00:00Z", datetime, datetime(2030, 1, 31, 12, tzinfo=timezone.utc)),
        ("2030-01-31T12:00:00.123456789Z", datetime, datetime(2030, 1, 31, 12, 0, 0, 123456, timezone.utc)),
        ("2030-01-31T12:00:00.5", datetime, datetime(2030, 1, 31, 12, 0, 0, 500_000)),
        ({"x": 1, "y": 2, "z": 3}, Near | Far, Near(1)),
        ("2030-01-01", date | str, date(2030, 1, 1)),
        ("later", date | str, "later"),
        ({"a": 1}, T, {"a": 1}),
        ([1], object, [1]),
        ({"a": [1]}, dict, {"a": [1]}),
        ([[1, 2]], list, [[1, 2]]),
    ],
    ids=lambda part: str(part)[:40],
)
def test_hints_accept_what_means_the_same(value: object, hint: object, meant: object) -> None:
    found = decode(value, hint)
    assert found == meant
    assert type(found) is type(meant)


def test_unions_that_differ_only_in_order_are_kept_apart() -> None:
    assert decode({"x": 1}, Union[Near, Percent]) == Near(1)
    assert type(decode("2030-01-01", Union[str, date])) is str
    assert type(decode("2030-01-01", Union[date, str])) is date


WRITTEN = """
from __future__ import annotations
from typing import *

class Person(TypedDict, total=False):
    name: Required[str]
    age: int

class Strict(TypedDict):
    a: int
    b: NotRequired[int]
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing has no Required before 3.11")
def test_required_members_of_a_typed_dict_are_required_also_when_hints_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typed_for_values.py").write_text(WRITTEN)
    monkeypatch.syspath_prepend(tmp_path)
    written = importlib.import_module("typed_for_values")
    assert decode({"name": "a"}, written.Person) == {"name": "a"}
    assert decode({"a": 1}, written.Strict) == {"a": 1}
    for value, hint in (({}, written.Person), ({"b": 1}, written.Strict)):
        with pytest.raises(SerializationError, match="missing"):
            decode(value, hint)


class OldModel:
    """A model of the first generation, as its users see it."""

    def __init__(self, n: int) -> None:
        self.n = n

    @classmethod
    def parse_obj(cls, value: Any) -> "OldModel":
        if not isinstance(value, dict) or "n" not in value:
            raise ValueError("n is missing")
        return cls(value["n"])

    def dict(self) -> "dict[str, Any]":
        return {"n": self.n, "when": date(2030, 1, 1)}


def test_models_convert_themselves() -> None:
    assert encode([OldModel(3)]) == '[{"n":3,"when":"2030-01-01"}]'
    assert [model.n for model in decode([{"n": 4}], list[OldModel])] == [4]
    with pytest.raises(SerializationError, match=r"\[0\]: an OldModel refuses it: n is missing"):
        decode([{}], list[OldModel])


def test_a_hint_without_demands_returns_what_was_read_untouched() -> None:
    value = {"a": [1]}
    for hint in (Any, object, dict, dict[str, Any], Mapping[str, Any]):
        assert _values.convert(value, hint, WHAT) is value
    items = [1]
    for hint in (list, list[Any], Sequence[Any]):
        assert _values.convert(items, hint, WHAT) is items


def test_text_that_is_not_json_is_told_so() -> None:
    for text in ("", "{", "NaN", "[Infinity]", "1" * 5000):
        with pytest.raises(SerializationError, match=r"^the input of step 'x' is not JSON: "):
            _values.decode(text, Any, WHAT)


@dataclass
class Parcel:
    blob: bytes
    tags: set[str]
    parts: dict[str, frozenset[bytes]] = field(default_factory=dict)
    inner: "Parcel | None" = None


@pytest.mark.parametrize(
    ("value", "hint", "text"),
    [
        (b"", bytes, '""'),
        (bytes(range(256)), bytes, None),
        (bytearray(b"ab"), bytearray, '"YWI="'),
        (b"ab", bytes | None, '"YWI="'),
        ({3, 1, 2, 10}, set[int], "[1,2,3,10]"),
        ({1.5, 1}, set[float], "[1,1.5]"),
        (frozenset({"b", "a", "é"}), frozenset[str], None),
        ({(2, "b"), (2, "a"), (1, "z")}, set[tuple[int, str]], '[[1,"z"],[2,"a"],[2,"b"]]'),
        ({None, 1, 2}, set[int | None], "[1,2,null]"),
        ({b"b", b"a"}, set[bytes], '["YQ==","Yg=="]'),
        (Parcel(b"x", {"b", "a"}, {"k": frozenset({b"1", b"0"})}, Parcel(b"", set())), Parcel, None),
        ([{"a": {b"z"}}], list[dict[str, set[bytes]]], '[{"a":["eg=="]}]'),
    ],
)
def test_bytes_and_sets_come_back_as_they_went(value: Any, hint: Any, text: str | None) -> None:
    encoded = encode(value)
    assert text is None or encoded == text
    back = _values.decode(encoded, hint, WHAT)
    assert back == value
    assert type(back) is type(value)


def test_a_set_has_one_text_however_it_was_filled() -> None:
    items: list[Any] = ["a", 1, None, False, "10", 2.5, (1, None), (1, "x"), ("x", 1)]
    assert len({encode(set(items[at:] + items[:at])) for at in range(len(items))}) == 1
