"""Questions at the terminal, asked of a pseudo-terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Windows has no pseudo-terminals.
pty = pytest.importorskip("pty")

SRC = Path(__file__).parents[2] / "src"


PROGRAM = """
import asyncio, json
from cerebelum import ApprovalRejected, ApprovalTimeout, ExecutionError, approval, workflow

SCHEMA = {"type": "object"}

@workflow
async def flow(context, question):
    try:
        given = await approval(
            question["title"], kind="spend", data={"amount": 500}, schema=SCHEMA if question.get("schema") else None,
            timeout=question.get("timeout"),
        )
    except (ApprovalRejected, ApprovalTimeout) as no:
        return [no.kind, no.message.partition(": ")[2]]
    return given.data

@workflow
async def several(context, questions):
    return await asyncio.gather(*(flow(context, question) for question in questions))

import sys
chosen, inputs = several if sys.argv[1].startswith("[") else flow, json.loads(sys.argv[1])
try:
    print("OUTPUT", json.dumps(asyncio.run(chosen.execute(inputs)).output), flush=True)
except ExecutionError as error:
    print("FAILED", error, flush=True)
"""


class Person:
    """Sits at a terminal at which a program runs."""

    def __init__(self, program: Path, question: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(program), question],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONIOENCODING": "utf-8"},
        )
        os.close(slave)
        self._seen = ""

    def reads(self, text: str) -> str:
        """What stands there up to this text."""
        until = time.monotonic() + 120
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0, until - time.monotonic()))
            assert ready, f"{text!r} does not come: {self._seen!r}"
            self._seen += os.read(self._master, 4096).decode().replace("\r\n", "\n")
        before, _, self._seen = self._seen.partition(text)
        return before

    def types(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def leaves(self) -> None:
        os.write(self._master, b"\x04")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def sit(tmp_path: Path) -> Iterator[Callable[[str], Person]]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    people: list[Person] = []

    def sit(question: str) -> Person:
        people.append(Person(program, question))
        return people[-1]

    yield sit
    for person in people:
        person.end()


def test_the_question_shows_what_there_is_to_decide(sit: Callable[[str], Person]) -> None:
    person = sit('{"title": "Spend it?", "schema": true}')
    shown = person.reads("n = no, or the answer as JSON: ")
    assert "? Spend it?  [spend]" in shown
    assert '"amount": 500' in shown
    assert '"type": "object"' in shown
    person.types("y")
    person.reads("Answer (JSON): ")
    person.types('{"limit": 5}')
    person.reads('OUTPUT {"limit": 5}')


@pytest.mark.parametrize(
    ("lines", "output"),
    [
        (["y"], "null"),
        (['{"limit": [1, 2]}'], '{"limit": [1, 2]}'),
        (["perhaps", "YES"], "null"),
        (["n", "too much"], '["rejected", "too much"]'),
        (["no", ""], '["rejected", "no reason given"]'),
    ],
)
def test_a_person_says_yes_no_or_something(sit: Callable[[str], Person], lines: list[str], output: str) -> None:
    person = sit('{"title": "Spend it?"}')
    person.reads("as JSON: ")
    for line, prompt in zip(lines, ["as JSON: " if lines[0] == "perhaps" else "Reason: ", ""], strict=False):
        person.types(line)
        if prompt and line != lines[-1]:
            person.reads(prompt)
    person.reads(f"OUTPUT {output}")


def test_questions_come_one_at_a_time(sit: Callable[[str], Person]) -> None:
    person = sit('[{"title": "First?"}, {"title": "Second?"}]')
    assert "Second?" not in person.reads("as JSON: ")
    person.types("1")
    assert "Second?" in person.reads("as JSON: ")
    person.types("2")
    person.reads("OUTPUT [1, 2]")


def test_a_question_that_times_out_takes_no_line_from_the_next(sit: Callable[[str], Person]) -> None:
    person = sit('[{"title": "First?", "timeout": 300}, {"title": "Second?"}]')
    person.reads("as JSON: ")
    person.reads("Second?")
    person.reads("as JSON: ")
    person.types("2")
    assert '"approval-timeout"' in person.reads(", 2]")


def test_a_person_who_leaves_has_not_said_yes(sit: Callable[[str], Person]) -> None:
    person = sit('{"title": "Spend it?"}')
    person.reads("as JSON: ")
    person.leaves()
    person.reads("FAILED Execution failed: the terminal was closed before there was an answer")


def test_without_a_terminal_the_failure_says_how_to_answer(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(SRC), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(program), '{"title": "Spend it?"}']
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, check=True
    )
    assert "'Spend it?': stdin is not a terminal, so the question cannot be asked" in ended.stdout
    assert "execute(…, approve=…)" in ended.stdout
