"""The Python snippets of the original documents: where they are, what they are called, what they say."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CEREBELUM_SEEDS"
ABSENT = (
    f"the original documents are not here: their snippets were not checked; set {VARIABLE} to the folder that has them"
)
DIGEST_DIGITS = 12

_FENCE = re.compile(r"( *)```(\w*) *")


@dataclass(frozen=True)
class Block:
    """A snippet: the number of its document, its own number in there from 1, and its text."""

    document: int
    number: int
    text: str

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"S{self.document}.{self.number}"

    @property
    def digest(self) -> str:
        """What tells whether a text is the one that the table means."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:DIGEST_DIGITS]


def folder() -> Path | None:
    """Where the documents are, if they are anywhere."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named and any(documents(Path(named))) else None


def documents(place: Path) -> list[Path]:
    """The documents in the order of their numbers."""
    return sorted(path for path in place.glob("[0-9][0-9][0-9]_*.txt") if path.is_file())


def extract(place: Path) -> list[Block]:
    """Every Python snippet of every document."""
    return [
        Block(int(path.name[:3]), number, text)
        for path in documents(place)
        for number, text in enumerate(snippets(path.read_text(encoding="utf-8")), 1)
    ]


def snippets(text: str) -> list[str]:
    """The Python snippets of a text, without the indentation of their fences.

    # Raises
    ValueError when a fence is not closed.
    """
    found = []
    # Not `splitlines`, which breaks at more than line feeds.
    lines = iter(text.split("\n"))
    for line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            continue
        body = []
        for inner in lines:
            if _FENCE.fullmatch(inner) and not inner.strip("` "):
                break
            body.append(inner[len(fence[1]) :])
        else:
            raise ValueError(f"the fence is not closed: {line}")
        if fence[2] == "python":
            found.append("\n".join(body))
    return found
