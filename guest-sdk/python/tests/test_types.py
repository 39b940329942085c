"""What a type checker knows of programs: mypy is asked, since programs are checked with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]
HEAD = """
from dataclasses import dataclass
from typing import Any, TypedDict
from cerebelum import Context, approval, poll, ready, run_workflow, step, wait_for_signal, workflow
from cerebelum.compat import wait_for_approval
from cerebelum.timeline import WorkflowBuilder

@dataclass
class Order:
    cents: int

class Terms(TypedDict):
    percent: int

@step
@approval(schema=Terms)
async def asked(context: Context, id: int) -> int:
    return id

@workflow
async def child(context: Context, id: str, order: Order, count: int = 1) -> list[Order]:
    return [order] * count

@workflow(name="other", cancel_grace="5m")
async def other(context: Context) -> str:
    return ""

@workflow
def line(wf: WorkflowBuilder) -> None: ...

@workflow(name="more")
def more(wf: WorkflowBuilder) -> None: ...

@step
async def check(context: Context, id: int) -> dict[str, Any]:
    return ready(id)

async def flow(context: Context, order: Order) -> None:
"""
# Expressions, and what mypy says of each: a type, or why it is wrong.
SAID = {
    'await child(context, "a", order)': "list[program.Order]",
    'await child(context, "a", order=order, count=2)': "list[program.Order]",
    "await child(context, 1, order)": 'incompatible type "int"; expected "str"',
    'await child(context, "a")': 'Missing positional argument "order"',
    'await child(context, "a", order, cnt=2)': 'Unexpected keyword argument "cnt"',
    "await other(context)": "str",
    "await line(context, {})": "Any",
    "await more(context)": "Any",
    "await run_workflow(child, {})": "list[program.Order]",
    'await run_workflow(other, id="mine")': "str",
    "await run_workflow(line, 5)": "Any",
    "await asked(context, 5)": "int",
    'await run_workflow("shop/sell", 5)': "Any",
    'await wait_for_signal("paid", "3d", returns=Order)': "program.Order",
    'await wait_for_signal("paid", returns=list[Order])': "list[program.Order]",
    'await wait_for_signal("paid", returns=Order | None)': "Any",
    'await wait_for_signal("paid")': "Any",
    'await poll(check, 5, interval="1m", returns=Order)': "program.Order",
    "await poll(check, 5, returns=Order | None)": "Any",
    "await poll(check, 5)": "Any",
    "await poll(lambda: 5, returns=int)": "No overload variant",
    'await approval("Terms?", schema=Order)': "cerebelum.waits.Approved[program.Order]",
    'await approval("Terms?", schema=Terms)': "cerebelum.waits.Approved[TypedDict(program.Terms, {'percent': int})]",
    'await approval("Terms?", schema=Order | None)': "cerebelum.waits.Approved[Any]",
    """await approval("Terms?", schema={"type": "string"})""": "cerebelum.waits.Approved[Any]",
    'await approval("Terms?")': "cerebelum.waits.Approved[Any]",
    'await wait_for_approval("terms", schema=Order)': "cerebelum.waits.Approved[program.Order]",
    'await wait_for_approval("terms")': "cerebelum.waits.Approved[Any]",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mypy says of each expression."""
    folder = tmp_path_factory.mktemp("types")
    program = folder / "program.py"
    head = textwrap.dedent(HEAD)
    program.write_text(head + "".join(f"    reveal_type({expression})\n" for expression in SAID), "utf-8")
    asked = [sys.executable, "-m", "mypy", "--config-file", str(PACKAGE / "pyproject.toml"), "--strict"]
    env = {**os.environ, "MYPYPATH": str(PACKAGE / "src")}
    cache = [] if "MYPY_CACHE_DIR" in env else ["--cache-dir", str(folder / "cache")]
    answer = subprocess.run(
        [*asked, *cache, "program.py"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    lines: dict[int, str] = {}
    for number, text in re.findall(r"^program\.py:(\d+): (?:error|note): (.*)$", answer.stdout, re.MULTILINE):
        place = int(number) - head.count("\n") - 1
        assert place >= 0, answer.stdout
        # Of a wrong call the reason comes before the type.
        lines.setdefault(place, "")
        lines[place] += f"{text}\n"
    assert lines, answer.stdout + answer.stderr
    return {expression: lines.get(place, "") for place, expression in enumerate(SAID)}


@pytest.mark.parametrize("expression", SAID)
def test_mypy_checks_arguments_and_knows_results(said: dict[str, str], expression: str) -> None:
    wanted = SAID[expression]
    is_right = f'Revealed type is "{wanted}"\n' == said[expression]
    # A type alone, or a type with the reason before it.
    assert is_right or (wanted in said[expression] and said[expression].count("\n") > 1), said[expression]
