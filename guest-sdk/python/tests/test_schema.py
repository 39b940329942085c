"""Schemas: what is written for which hint, and that they admit whatever decoding accepts."""

import asyncio
import contextlib
import enum
import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import pytest
import test_values as values

from cerebelum import Context, _schema, _values, step, workflow
from cerebelum._signature import Signature
from cerebelum.errors import SerializationError

T = TypeVar("T")
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class Size(enum.Enum):
    """How large."""

    S = "s"
    L = "l"


@dataclass
class Image:
    """What it runs."""

    name: str


@dataclass
class Droplet:
    size: Size
    image: Image
    tags: list[str] = field(default_factory=list)
    count: Annotated[int, "how many"] = 1
    when: datetime | None = None
    parent: "Droplet | None" = None


class Plain(TypedDict):
    a: int


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass
class Page(Generic[T]):
    items: list[T]


def schemas(function: Callable[..., Any]) -> list[Any]:
    return [None if text is None else json.loads(text) for text in _schema.of_signature(Signature(function))]


def bare(schema: Any) -> Any:
    """What a schema says of an only parameter that is not an object with its name."""
    return schema["else"]


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (str | None, {"type": ["string", "null"]}),
        (int | list[int], {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Literal["a"], {"const": "a"}),
        (dict[str, Any], {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            dict[Literal["a", "b"], int],
            {"type": "object", "additionalProperties": {"type": "integer"}, "propertyNames": {"enum": ["a", "b"]}},
        ),
        (list, {"type": "array"}),
        (set[str], {"type": "array", "items": {"type": "string"}}),
        (datetime, {"type": "string", "format": "date-time", "pattern": _schema.DAY}),
        (timedelta, {"type": "number", "description": "milliseconds"}),
        (Decimal, {"type": ["string", "number"], "format": "decimal"}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        (
            Point,
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}], "minItems": 1, "maxItems": 2},
        ),
        (Size, {"title": "Size", "description": "How large.", "enum": ["s", "l"]}),
        (Plain, {"title": "Plain", "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        (int | Any, None),
        (Any, None),
    ],
    ids=str,
)
def test_hints_have_a_schema(hint: Any, schema: Any) -> None:
    assert _schema.of_hint(hint) == (None if schema is None else {"$schema": DRAFT, **schema})


def test_classes_inside_become_definitions() -> None:
    assert _schema.of_hint(Droplet) == {
        "$schema": DRAFT,
        "$ref": "#/$defs/Droplet",
        "$defs": {
            "Droplet": {
                "title": "Droplet",
                "type": "object",
                "properties": {
                    "size": {"$ref": "#/$defs/Size"},
                    "image": {"$ref": "#/$defs/Image"},
                    "tags": {"type": "array", "items": {"type": "string"}, "default": []},
                    "count": {"type": "integer", "description": "how many", "default": 1},
                    "when": {
                        "anyOf": [
                            {"type": "string", "format": "date-time", "pattern": _schema.DAY},
                            {"type": "null"},
                        ],
                        "default": None,
                    },
                    "parent": {"anyOf": [{"$ref": "#/$defs/Droplet"}, {"type": "null"}], "default": None},
                },
                "required": ["size", "image"],
            },
            "Size": {"title": "Size", "description": "How large.", "enum": ["s", "l"]},
            "Image": {
                "title": "Image",
                "description": "What it runs.",
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
            },
        },
    }


def test_classes_of_the_same_name_are_kept_apart() -> None:
    other: Any = dataclass(type("Image", (), {"__annotations__": {"url": str}}))
    schema = _schema.of_hint(tuple[Image, other, Page[int], Page[str]])
    assert schema is not None
    assert [item["$ref"].rsplit("/", 1)[1] for item in schema["prefixItems"]] == ["Image", "Image2", "Page", "Page2"]
    assert list(schema["$defs"]["Image2"]["properties"]) == ["url"]
    assert schema["$defs"]["Page2"]["properties"]["items"] == {"type": "array", "items": {"type": "string"}}


def test_one_parameter_is_the_input_itself_and_several_are_an_object_of_them() -> None:
    async def one(context: Context, size: Size) -> int: ...  # type: ignore[empty-body]
    async def optional(context: Context, n: int = 3) -> None: ...
    async def two(context: Context, a: int, b: str = "x") -> None: ...
    async def none(context: Context) -> None: ...
    async def unhinted(context, inputs): ...  # type: ignore[no-untyped-def]

    takes, gives = schemas(one)
    assert (bare(takes), gives) == ({"$ref": "#/$defs/Size"}, {"$schema": DRAFT, "type": "integer"})
    assert takes["$defs"] == {"Size": {"title": "Size", "description": "How large.", "enum": ["s", "l"]}}
    number = {"type": "integer", "default": 3}
    assert schemas(optional)[0] == {
        "$schema": DRAFT,
        "if": {"type": "object", "required": ["n"], "maxProperties": 1},
        "then": {"properties": {"n": number}},
        "else": {"anyOf": [number, {"type": "null"}]},
    }
    assert schemas(two)[0] == {
        "$schema": DRAFT,
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string", "default": "x"}},
        "required": ["a"],
    }
    assert schemas(none) == [None, {"$schema": DRAFT, "type": "null"}]
    assert schemas(unhinted) == [None, None]


class Enveloped(TypedDict, total=False):
    ok: int
    error: str


@pytest.mark.parametrize(
    ("hint", "schema"), [(dict, None), (dict[str, int], None), (dict | None, None), (Enveloped, {"type": "integer"})]
)
def test_a_returned_dict_may_be_an_envelope_so_that_nothing_is_promised_of_it(hint: Any, schema: Any) -> None:
    async def answer(context: Context) -> Any: ...

    answer.__annotations__["return"] = hint
    assert schemas(answer)[1] == (None if schema is None else {"$schema": DRAFT, **schema})


def test_what_comes_out_of_an_envelope_is_decoded_by_what_is_known() -> None:
    async def answer(context: Context) -> dict[str, Image]: ...  # type: ignore[empty-body]

    returns = Signature(answer).returns
    assert _values.decode('{"a":{"name":"x"}}', returns, "it") == {"a": Image("x")}
    assert _values.decode('{"name":"x"}', returns, "it") == Image("x")
    assert _values.decode("7", returns, "it") == 7


FUTURE = """
from __future__ import annotations
from dataclasses import dataclass
from cerebelum import Context

@dataclass
class Order:
    size: Size

@dataclass
class Size:
    name: str

async def good(context: Context, order: Order) -> list[Size]: ...
async def lost(context: Context, order: Missing) -> int: ...
"""


def test_hints_that_are_text_are_resolved_and_a_lost_name_is_a_problem(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typed_for_schema.py").write_text(FUTURE)
    monkeypatch.syspath_prepend(tmp_path)
    import typed_for_schema as module  # type: ignore[import-not-found]

    takes, gives = schemas(module.good)
    assert takes["$defs"][bare(takes)["$ref"].rsplit("/", 1)[1]]["properties"] == {"size": {"$ref": "#/$defs/Size"}}
    assert gives["items"] == {"$ref": "#/$defs/Size"}
    assert _schema.problems(Signature(module.good)) == []
    assert schemas(module.lost) == [None, None]
    assert _schema.problems(Signature(module.lost)) == [
        "its type hints cannot be resolved (name 'Missing' is not defined): define or import the name at module level"
    ]


class Connection:
    pass


@dataclass
class Holder:
    connections: list[Connection]
    again: "Holder | None" = None


def test_hints_that_json_cannot_become_are_problems_each_with_its_place() -> None:
    async def bad(context: Context, holder: Holder, raw: memoryview, fine: set[int]) -> dict[str, memoryview]: ...  # type: ignore[empty-body]

    assert _schema.problems(Signature(bad)) == [
        "parameter 'holder'.connections[]: "
        "JSON cannot become Connection: use a dataclass, a TypedDict, an Enum or plain types",
        "parameter 'raw': JSON cannot become memoryview: use bytes",
        "what it returns (a value): JSON cannot become memoryview: use bytes",
    ]
    assert schemas(bad)[0]["properties"]["raw"] is True


def test_bytes_are_base64_text_and_sets_are_arrays_on_both_sides() -> None:
    async def packs(context: Context, blob: bytes, tags: set[str]) -> list[frozenset[bytes]]: ...  # type: ignore[empty-body]

    assert _schema.problems(Signature(packs)) == []
    takes, gives = schemas(packs)
    assert takes["properties"]["blob"] == {"type": "string", "contentEncoding": "base64", "format": "byte"}
    assert takes["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    assert gives["items"]["items"]["contentEncoding"] == "base64"


def test_a_timeline_has_no_schema_and_an_async_workflow_has_its_own() -> None:
    @workflow
    def timeline(wf: Any) -> None: ...

    @workflow
    async def flow(context: Context, order: Image) -> int: ...  # type: ignore[empty-body]

    assert _schema.of_workflow(timeline) == (None, None)
    takes, gives = _schema.of_workflow(flow)
    assert bare(json.loads(takes or "")) == {"$ref": "#/$defs/Image"}
    assert json.loads(gives or "")["type"] == "integer"


def admits(schema: Any, value: Any, root: Any) -> bool:
    """Whether a value satisfies a schema, for the words that are written here."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and not admits(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root):
        return False
    if "anyOf" in schema and not any(admits(part, value, root) for part in schema["anyOf"]):
        return False
    if "if" in schema and not admits(schema["then" if admits(schema["if"], value, root) else "else"], value, root):
        return False
    same = [json.dumps(told) for told in schema.get("enum", [schema["const"]] if "const" in schema else [value])]
    if json.dumps(value) not in same:
        return False
    types = schema.get("type", [])
    if types and not any(is_of(word, value) for word in ([types] if isinstance(types, str) else types)):
        return False
    if isinstance(value, list):
        places = schema.get("prefixItems", [])
        count = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        each = [*zip(places, value, strict=False), *((schema.get("items", True), v) for v in value[len(places) :])]
        return count and all(admits(part, inner, root) for part, inner in each)
    if isinstance(value, dict):
        own = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        names = schema.get("propertyNames", True)
        return (
            all(name in value for name in schema.get("required", []))
            and len(value) <= schema.get("maxProperties", len(value))
            and all(admits(own.get(name, rest), inner, root) for name, inner in value.items())
            and all(admits(names, name, root) for name in value)
        )
    return True


def is_of(word: str, value: Any) -> bool:
    if word == "integer":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    if word == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kinds[word])


HINTS = [hint for _, hint in values.ROUND_TRIPS] + [
    Droplet,
    Page[Image],
    values.Near | values.Far,
    values.Percent,
    set[int],
    date | str,
]
SAMPLES = [json.loads(values.encode(value)) for value, _ in values.ROUND_TRIPS] + [
    {},
    {"x": 1},
    {"x": 1, "y": 2, "z": 3},
    {"items": []},
    {"items": [{"name": "a"}]},
    {"size": "s", "image": {"name": "a", "more": 1}, "parent": {"size": "l", "image": {"name": "b"}}},
    {"size": "m", "image": {}},
    {"value": 5},
    [],
    [1],
    [1.0, 2],
    "s",
    "2030-01-01",
    "1.5",
    0,
    True,
    2.5,
]


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: str(hint)[:40])
def test_a_schema_admits_whatever_decoding_accepts(hint: Any) -> None:
    schema = _schema.of_hint(hint)
    accepted = 0
    for sample in SAMPLES:
        try:
            _values.convert(sample, hint, "it")
        except SerializationError:
            continue
        accepted += 1
        assert schema is None or admits(schema, sample, schema), sample
    assert accepted


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: str(hint)[:40])
def test_an_only_parameter_is_admitted_bare_and_by_its_name(hint: Any) -> None:
    async def one(context: Context, order: Any = None) -> None: ...

    one.__annotations__["order"] = hint
    signature = Signature(one)
    (schema, _), named = schemas(one), 0
    for sample in SAMPLES:
        for given in (sample, {"order": sample}):
            try:
                taken = signature.decode(json.dumps(given), "it")
            except SerializationError:
                continue
            assert schema is None or admits(schema, given, schema), given
            if given is not sample and signature.only_by_name:
                assert taken == {"order": _values.convert(sample, hint, "it")}
                named += 1
    assert bool(named) == signature.only_by_name


@pytest.mark.parametrize(
    ("hint", "text", "taken"),
    [
        (int, '{"order":3}', 3),
        (Image, '{"order":{"name":"a"}}', Image("a")),
        (Image | None, '{"order":{"name":"a"}}', Image("a")),
        (list[int], '{"order":[1]}', [1]),
        # What such an object is already, it stays.
        (Any, '{"order":3}', {"order": 3}),
        (dict[str, int], '{"order":3}', {"order": 3}),
        (TypedDict("Ordered", {"order": int}), '{"order":3}', {"order": 3}),
        (int | dict[str, int], '{"order":3}', {"order": 3}),
    ],
)
def test_an_object_with_the_only_parameter_s_name_stands_for_it(hint: Any, text: str, taken: Any) -> None:
    async def one(context: Context, order: Any) -> None: ...

    one.__annotations__["order"] = hint
    assert Signature(one).decode(text, "it") == {"order": taken}


def test_what_does_not_fit_by_name_is_told_at_its_place() -> None:
    async def one(context: Context, order: int) -> None: ...

    with pytest.raises(SerializationError, match=r'^it: \.order: expected an integer, got "x"$'):
        Signature(one).decode('{"order":"x"}', "it")
    with pytest.raises(SerializationError, match=r"^it: expected an integer, got an object$"):
        Signature(one).decode('{"order":1,"more":2}', "it")


def test_a_schema_refuses_what_is_far_off() -> None:
    schema = _schema.of_hint(Droplet)
    samples: list[Any] = [{}, [], None, {"size": "m", "image": {"name": "a"}}, {"size": "s", "image": 3}]
    for sample in samples:
        assert not admits(schema, sample, schema), sample


def test_a_step_gets_what_its_hint_says() -> None:
    @step
    async def order(context: Context, droplet: Droplet, factor: int = 2) -> int:
        assert isinstance(droplet.image, Image)
        return droplet.count * factor

    made = order.signature.decode('{"droplet":{"size":"s","image":{"name":"a"},"count":4}}', "it")
    assert asyncio.run(order.function(None, **made)) == 8  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match=r"^it: \.droplet\.image: expected an object \(Image\), got 3$"):
        order.signature.decode('{"droplet":{"size":"s","image":3}}', "it")


def test_the_limit_of_clean_up_stands_in_the_input_schema_and_accepts_what_was_accepted() -> None:
    async def flow(context: Context, order: int) -> None: ...
    async def anything(context: Context, order: Any) -> None: ...

    grace = {"x-cerebelum-cancel-grace-ms": 300_000}
    for function in [flow, anything]:
        plain, _ = _schema.of_workflow(workflow(function))
        limited, _ = _schema.of_workflow(workflow(cancel_grace=timedelta(minutes=5))(function))
        assert limited is not None
        assert json.loads(limited) == (json.loads(plain) if plain else {}) | grace


@pytest.mark.parametrize(
    ("hint", "text", "fits"),
    [
        (datetime, "2030-01-31T12:00:00Z", True),
        (datetime, "2030-01-31 12:00", True),
        (date, "2030-01-31", True),
        (time, "12:00", True),
        (datetime, "yesterday", False),
        (datetime, "31.01.2030", False),
        (date, "tomorrow", False),
        (time, "noon", False),
    ],
)
def test_what_is_no_date_does_not_match_the_schema_either(hint: Any, text: str, fits: bool) -> None:
    pattern = (_schema.of_hint(hint) or {})["pattern"]
    assert (re.search(pattern, text) is not None) is fits
    try:
        _values.decode(json.dumps(text), hint, "it")
    except SerializationError:
        assert not fits
    else:
        assert fits


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 reads fewer forms")
def test_the_schema_admits_every_date_and_time_that_is_read() -> None:
    chance = random.Random(1)
    given = {
        datetime: ("2030-01-31T12:00:00Z", "20300131T120000", "2030-W05-4T12", "2030W054 12:00:00.5+01:00"),
        date: ("2030-01-31", "20300131", "2030-W05-4", "2030W05"),
        time: ("12:00", "T12:00:00.123Z", "120000+01:00"),
    }
    for hint, texts in given.items():
        pattern, read = (_schema.of_hint(hint) or {})["pattern"], 0
        for _ in range(3_000):
            text = chance.choice(texts)
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice("0123456789-WTZ:.+ ") + text[at + chance.randrange(2) :]
            with contextlib.suppress(SerializationError):
                _values.decode(json.dumps(text), hint, "it")
                read += 1
                assert re.search(pattern, text), text
        assert read > 100
