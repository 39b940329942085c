"""The check that `cerebelum build` runs in CPython: what it finds, where it says it is, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parents[1] / "src"
RUN = "import sys; sys.path.append(sys.argv.pop(1)); from cerebelum._check import main; main(sys.argv[1:])"
FINE = "from cerebelum import step, workflow\n\n@step\nasync def fine(context): ...\n"


class Program:
    """A folder with a program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, module: str = "app", *dependencies: Path) -> Any:
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            RUN,
            str(SOURCES),
            module,
            str(self.folder),
            *map(str, dependencies),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        return json.loads(done.stdout)

    def errors(self, text: str) -> list[str]:
        self.write("app.py", text)
        return self.told(self.check()["errors"])

    def warnings(self, text: str) -> list[str]:
        self.write("app.py", FINE + text)
        answer = self.check()
        assert answer["errors"] == []
        return self.told(answer["warnings"])

    def told(self, problems: list[Any]) -> list[str]:
        return [f"{Path(problem['file']).name}:{problem['line']}: {problem['text']}" for problem in problems]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_fine_program_has_neither_errors_nor_warnings(program: Program) -> None:
    program.write("app.py", FINE + "print('not in the answer')\n")
    assert program.check() == {"errors": [], "warnings": [], "read": ["app.py"]}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("time.time()", "time.time"),
        ("time.monotonic_ns()", "time.monotonic_ns"),
        ("uuid.uuid1()", "uuid.uuid1"),
        ("uuid.uuid4()", "uuid.uuid4"),
        ("random.random()", "random.random"),
        ("random.choice([1])", "random.choice"),
        ("random.Random()", "random.Random"),
        ("secrets.token_hex()", "secrets.token_hex"),
        ("os.urandom(8)", "os.urandom"),
        ("datetime.datetime.now()", "datetime.now"),
        ("datetime.date.today()", "date.today"),
        ("[time.time() for _ in range(3)]", "time.time"),
    ],
)
def test_what_would_be_frozen_is_warned_of(program: Program, call: str, name: str) -> None:
    warnings = program.warnings(f"import datetime, os, random, secrets, time, uuid\nX = {call}\n")
    assert len(warnings) == 1
    assert warnings[0].startswith(f"app.py:6: {name}() at module level runs once")


@pytest.mark.parametrize(
    "harmless",
    [
        "def now(): return time.time()",
        "X = random.Random(7).random()",
        "X = random.Random(7).choice([1, 2])",
        "X = uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
        "X = datetime.datetime(2030, 1, 1)",
        "X = time.strptime('2030', '%Y')",
    ],
)
def test_what_is_the_same_always_is_left_alone(program: Program, harmless: str) -> None:
    assert program.warnings(f"import datetime, random, time, uuid\n{harmless}\n") == []


@pytest.mark.parametrize(
    ("use", "what"),
    [
        ("threading.Thread(target=print).start()", "threads"),
        ("socket.socket().close()", "sockets"),
        ("subprocess.run(['true'])", "processes"),
        ("os.system('true')", "processes"),
    ],
)
def test_what_a_component_has_not_is_warned_of(program: Program, use: str, what: str) -> None:
    warnings = program.warnings(f"import os, socket, subprocess, threading\n{use}\n")
    assert len(warnings) == 1
    assert warnings[0].startswith(f"app.py:6: {what} are used at module level")


def test_what_a_library_does_is_its_own_affair(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    library = tmp_path_factory.mktemp("library")
    (library / "lib.py").write_text("import time, socket\nX = time.time()\nsocket.socket().close()\n")
    program.write("app.py", FINE + "import lib\n")
    answer = program.check("app", library)
    assert (answer["errors"], answer["warnings"]) == ([], [])


def test_an_error_of_a_library_is_told_at_the_line_that_led_there(
    program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("library")
    (library / "lib.py").write_text("def fail():\n    raise ValueError('deep')\n")
    program.write("app.py", FINE + "import lib\nlib.fail()\n")
    assert program.told(program.check("app", library)["errors"]) == ["app.py:6: ValueError: deep"]


def test_problems_before_an_import_error_are_told_as_well(program: Program) -> None:
    definitions = "@step\ndef one(context): ...\n@step(timeout='x')\nasync def two(context): ...\n"
    told = program.errors(f"from cerebelum import step\n{definitions}1/0\n")
    assert [line.split(":")[1] for line in told] == ["2", "4", "6"]
    assert told[1].startswith("app.py:4: step 'two': ")
    assert told[2] == "app.py:6: ZeroDivisionError: division by zero"


def test_the_wrong_order_of_decorators_is_told_and_the_import_goes_on(program: Program) -> None:
    text = FINE + "@step\n@step\nasync def one(context): ...\n@step\ndef two(context): ...\n"
    told = program.errors(text)
    assert len(told) == 2
    assert "is a step already" in told[0]
    assert "must be async" in told[1]


def test_what_was_read_beside_the_entry_belongs_to_the_program(program: Program) -> None:
    program.write("steps/one.py", "")
    program.write("texts/hello.txt", "hi")
    program.write("unused/two.py", "")
    reading = "import steps.one, pathlib\npathlib.Path(__file__).with_name('texts').joinpath('hello.txt').read_text()\n"
    program.write("app.py", FINE + reading)
    assert program.check()["read"] == ["app.py", "steps", "texts"]


def test_a_relative_path_is_found_wrong_before_the_build(program: Program) -> None:
    program.write("rates.json", "{}")
    assert program.errors(FINE + "open('rates.json')\n")[0].startswith("app.py:5: FileNotFoundError")


def test_a_module_that_hides_behind_the_standard_library_is_warned_of(program: Program) -> None:
    program.write("calendar.py", "")
    assert program.warnings("")[0].startswith("calendar.py:0: is hidden in a component by another module of that name")


def test_a_durable_call_while_the_module_is_imported_is_told(program: Program) -> None:
    program.write("app.py", FINE + "import asyncio\nasyncio.run(fine(None))\n")
    answer = program.check()
    # That the event loop of CPython has a socket is not the author's doing.
    assert answer["warnings"] == []
    told = program.told(answer["errors"])
    assert len(told) == 1
    assert told[0].startswith("app.py:6: cerebelum.errors.ContextError: ")


def test_what_functions_do_that_cannot_work_is_warned_of_and_no_error(program: Program) -> None:
    told = program.warnings("import threading\n\ndef f():\n    threading.Thread(target=print).start()\n")
    assert told == [
        "app.py:8: threading.Thread: there are no threads in a component: use asyncio.create_task, or "
        "asyncio.to_thread, which runs in line"
    ]


def test_a_package_that_can_never_work_is_told_where_it_is_missing(program: Program) -> None:
    [told] = program.errors(FINE + "import redis.client\n")
    assert "redis opens sockets, which a component does not have" in told
