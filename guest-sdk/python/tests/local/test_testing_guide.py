"""The chapter about local mode and testing: its blocks are run, in order, as one file, and then its tests."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import types
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[4] / "docs" / "python-testing.md"


def blocks() -> list[tuple[int, str]]:
    """The Python blocks and the lines at which they begin."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


def test_every_block_of_the_chapter_runs_and_its_tests_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    page = types.ModuleType("page")
    # Type hints are looked up where a function says it was defined.
    monkeypatch.setitem(sys.modules, "page", page)
    for line, source in blocks():
        tree = ast.increment_lineno(ast.parse(source), line)
        code = compile(tree, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        waiting = eval(code, page.__dict__)
        if inspect.iscoroutine(waiting):
            asyncio.run(waiting)
    tests = [value for name, value in vars(page).items() if name.startswith("test_")]
    assert len(tests) >= 9
    for test in tests:
        test()
