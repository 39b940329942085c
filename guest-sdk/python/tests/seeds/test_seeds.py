"""Every Python snippet of the original documents does what the table says of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from seed_blocks import ABSENT, Block, extract, folder, snippets
from seed_engine import ON_ENGINE, Engine
from seed_page import PAGE, render
from seed_programs import PROGRAMS
from seed_table import TABLE, Entry
from seed_trial import Trial

from cerebelum.testing import run_virtually

PLACE = folder()
BLOCKS = {block.name: block for block in extract(PLACE)} if PLACE else {}
THERE = [entry for entry in TABLE if entry.name in BLOCKS]
HERE = [entry for entry in THERE if entry.name in PROGRAMS]
# In the order in which they follow each other best.
ELSEWHERE = [entry for name in ON_ENGINE for entry in THERE if entry.name == name]


def named(entry: Entry) -> str:
    """How a test calls an entry."""
    return entry.name


def run_here(entry: Entry, text: str) -> None:
    """Runs a snippet on the virtual clock."""
    run_virtually(PROGRAMS[entry.name](Trial(entry.name, text)))


def run_on(engine: str, entry: Entry, text: str, place: Path) -> None:
    """Runs a snippet that needs an engine."""
    trial = Trial(entry.name, text)
    trial.names["ENGINE"] = engine
    asyncio.run(ON_ENGINE[entry.name](trial, Engine(engine, place)))


def text_of(entry: Entry) -> str:
    """A snippet as it stands in its document."""
    return BLOCKS[entry.name].text


def test_the_table_has_each_snippet_once_and_no_other() -> None:
    if PLACE is None:
        pytest.skip(ABSENT)
    known = {entry.name: entry.digest for entry in TABLE}
    assert {name: block.digest for name, block in BLOCKS.items()} == known


def test_every_entry_that_runs_has_a_program_and_says_why_it_differs() -> None:
    for entry in TABLE:
        runs = entry.name in PROGRAMS or entry.name in ON_ENGINE
        assert runs is (entry.verdict != "no program"), entry
        assert bool(entry.why) is (entry.verdict != "verbatim"), entry
        assert bool(entry.changes) is (entry.verdict == "changed"), entry
    assert set(PROGRAMS) | set(ON_ENGINE) <= {entry.name for entry in TABLE}


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_it_runs_in_this_process(entry: Entry) -> None:
    run_here(entry, entry.changed(text_of(entry)))


@pytest.mark.parametrize("entry", [entry for entry in HERE if entry.changes], ids=named)
def test_it_needs_its_change(entry: Entry) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - each in its own way
        run_here(entry, text_of(entry))


@pytest.mark.parametrize("entry", ELSEWHERE, ids=named)
def test_it_runs_on_an_engine_and_needs_its_changes(entry: Entry, engine: str, tmp_path: Path) -> None:
    run_on(engine, entry, entry.changed(text_of(entry)), tmp_path)
    if entry.changes:
        with pytest.raises(Exception):  # noqa: B017, PT011 - each in its own way
            run_on(engine, entry, text_of(entry), tmp_path)


def test_a_fence_that_is_not_closed_is_a_mistake() -> None:
    assert snippets("a\n```python\nx\n```\n  ```python\n  y\n  ```\n```sh\nz\n```") == ["x", "y"]
    with pytest.raises(ValueError, match="not closed"):
        snippets("```python\nx")
    assert Block(1, 2, "x").name == "S1.2"


def test_the_page_is_that_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run guest-sdk/python/tests/seeds/seed_page.py --write"
