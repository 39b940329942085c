"""Unions of classes that a tag tells apart: a mistake is told of the one that the tag names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest

from cerebelum import _schema


@dataclass
class Circle:
    radius: int
    type: Literal["circle", "disc"] = "circle"


@dataclass
class Square:
    side: int
    type: Literal["square"] = "square"


class Line(TypedDict):
    kind: Literal["line"]


@dataclass
class Blob:
    type: str


def schema(hint: Any) -> dict[str, Any]:
    return _schema.of_hint(hint) or {}


def test_the_tag_says_which_schema_counts() -> None:
    told = schema(Circle | Square | None)
    assert told["if"] == {"type": "object", "required": ["type"]}
    assert told["then"]["properties"] == {"type": {"enum": ["circle", "disc", "square"]}}
    assert [one["then"]["$ref"] for one in told["then"]["allOf"]] == [
        "#/$defs/Circle",
        "#/$defs/Circle",
        "#/$defs/Square",
    ]
    # Where the tag is left out, it has its default.
    assert told["else"] == {"anyOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Square"}, {"type": "null"}]}


@pytest.mark.parametrize("hint", [Circle | Line, Circle | Blob, Circle | Square | dict, Circle | None, Line | Blob])
def test_without_a_tag_that_all_have_it_is_any_of_them(hint: Any) -> None:
    assert "if" not in schema(hint)
