"""The chapter about timelines: its blocks are run, in order, as one file."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeHost

from cerebelum._host import enter
from cerebelum.results import ExecutionResult
from cerebelum.timeline import Workflow

PAGE = Path(__file__).parents[4] / "docs" / "python-timeline.md"


def blocks() -> list[tuple[int, str]]:
    """The Python blocks and the lines at which they begin."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


async def execute(workflow: Workflow, inputs: Any = None) -> ExecutionResult:
    async def scoped() -> str:
        enter(FakeHost())  # type: ignore[arg-type]
        return await workflow.run(json.dumps(inputs))

    output = json.loads(await asyncio.create_task(scoped()))
    return ExecutionResult("execution-1", "completed", output)


def test_every_block_of_the_chapter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workflow, "execute", execute)
    page = types.ModuleType("page")
    # Type hints are looked up where a function says it was defined.
    monkeypatch.setitem(sys.modules, "page", page)
    found = blocks()
    assert len(found) >= 7

    async def run() -> None:
        for line, source in found:
            tree = ast.increment_lineno(ast.parse(source), line)
            code = compile(tree, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            waiting = eval(code, page.__dict__)
            if inspect.isawaitable(waiting):
                await waiting

    asyncio.run(run())
    workflows = [value for value in vars(page).values() if isinstance(value, Workflow)]
    assert len(workflows) >= 7
    assert [there.name for there in workflows if not there.validate().is_valid] == ["mistaken"]


def test_what_the_chapter_says_about_lists_and_outputs_is_so(run: Any, flow: Any, answers: Any) -> None:
    a, b, c = answers("a"), answers("b"), answers("c")
    assert repr(flow(lambda wf: wf.timeline([a, b])).definition.timeline) == "a >> b"
    assert run(flow(lambda wf: wf.timeline(a >> [b, c]))) == {"b": "B", "c": "C"}
