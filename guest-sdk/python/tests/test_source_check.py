"""What the check of a build finds in functions without running them, and what it leaves alone."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
from pathlib import Path

import pytest

from cerebelum import _unsupported
from cerebelum._source_check import check
from cerebelum.durations import ms
from cerebelum.errors import is_permanent

THREADS, PROCESSES, SOCKETS = "there are no threads", "there are no processes", "there are no sockets"
FILES = "a component cannot write files"


def found(folder: Path, text: str, name: str = "app.py") -> list[str]:
    (folder / name).write_text(text)
    return [f"{Path(one.file).name}:{one.line}: {one.text}" for one in check([str(folder / name)], str(folder))]


@pytest.mark.parametrize(
    ("imports", "call", "why"),
    [
        ("import threading", "threading.Thread(target=print).start()", THREADS),
        ("from threading import Thread as T", "T(target=print).start()", THREADS),
        ("from concurrent.futures import ThreadPoolExecutor", "ThreadPoolExecutor()", THREADS),
        ("from concurrent import futures", "futures.ProcessPoolExecutor()", PROCESSES),
        ("import subprocess as sp", "sp.run(['ls'])", PROCESSES),
        ("import os", "os.system('ls')", PROCESSES),
        ("import multiprocessing", "multiprocessing.Process(target=print)", PROCESSES),
        ("import asyncio", "await asyncio.create_subprocess_exec('ls')", PROCESSES),
        ("import socket", "socket.socket()", SOCKETS),
        ("import urllib.request", "urllib.request.urlopen('http://x')", SOCKETS),
        ("import http.client", "http.client.HTTPSConnection('x')", SOCKETS),
        ("import smtplib", "smtplib.SMTP('x')", SOCKETS),
        ("", "open('x', 'w')", FILES),
        ("", "open('x', mode='ab')", FILES),
        ("from pathlib import Path", "(Path('x') / 'y').write_text('z')", FILES),
        ("import os", "os.makedirs('x')", FILES),
        ("import tempfile", "tempfile.mkdtemp()", "no folder for temporary files"),
        ("import sqlite3", "sqlite3.connect('x.db')", "sqlite3.connect(':memory:')"),
        ("from zoneinfo import ZoneInfo", "ZoneInfo('Europe/Berlin')", "list tzdata in requirements.txt"),
        ("import asyncio", "asyncio.run(f(context))", "a loop runs already"),
        ("", "input('Go on?')", "ask a person with approval"),
        ("import os", "os.environ['KEY']", "the environment of a component is empty"),
        ("", "import pymongo", "pymongo opens sockets"),
        ("", "import absent_altogether.inner", "name its package in requirements.txt"),
        ("", "from tkinter import Tk", "no module 'tkinter' in a component"),
    ],
)
def test_what_cannot_work_is_told_with_its_line_and_its_cure(tmp_path: Path, imports: str, call: str, why: str) -> None:
    [told] = found(tmp_path, f"{imports}\n\nasync def f(context):\n    {call}\n")
    assert told.startswith("app.py:4: ")
    assert why in told


@pytest.mark.parametrize("call", ["httpx.Client()", "httpx.get('http://x')"])
def test_a_blocking_client_is_told(tmp_path: Path, call: str) -> None:
    [told] = found(tmp_path, f"import httpx\n\ndef f():\n    {call}\n")
    assert "use `async with httpx.AsyncClient() as client" in told


@pytest.mark.parametrize(
    "text",
    [
        # The name stands for something else, or may.
        "class threading:\n    Thread = print\ndef f():\n    threading.Thread()",
        "import threading\ndef f(threading):\n    threading.Thread()",
        "import threading\ndef f():\n    threading = g()\n    threading.Thread()",
        "import threading\nthreading = None\ndef f():\n    threading.Thread()",
        "import threading\ndef f():\n    global threading\n    threading = g()\ndef h():\n    threading.Thread()",
        "import socket\nsocket.socket = print\ndef f():\n    socket.socket()",
        "try:\n    from threading import Thread\nexcept ImportError:\n    Thread = None\ndef f():\n    Thread()",
        "from mine import *\ndef f():\n    open('x', 'w')",
        "def open(*_): ...\ndef f():\n    open('x', 'w')",
        "def f(tool):\n    tool.Thread(), tool.run(), tool.open('x', 'w'), tool.write_text('x')",
        "import subprocess\ndef f():\n    for subprocess in []:\n        subprocess.run()",
        # It works.
        "import threading, asyncio\nasync def f():\n    threading.Lock()\n    await asyncio.to_thread(print)",
        "import sqlite3\ndef f():\n    sqlite3.connect(':memory:')",
        "import io\ndef f(mode):\n    open('x'), open('x', mode), open(1, 'w'), io.StringIO()",
        "import httpx\ndef f(own):\n    httpx.AsyncClient(), httpx.Client(transport=own)",
        "import os\ndef f():\n    os.environ.get('X'), os.path.join('a'), os.getcwd()",
        "from zoneinfo import ZoneInfo\nZONE = ZoneInfo('Europe/Berlin')\ndef f():\n    ZoneInfo('Europe/Berlin')",
        "from zoneinfo import ZoneInfo\nZONES = [ZoneInfo(k) for k in KEYS]\ndef f():\n    ZoneInfo('Europe/Berlin')",
        "import asyncio\ndef main():\n    asyncio.run(f())",
        # It is meant for another place, or its failure is expected.
        "import sys, threading\ndef f():\n    if sys.platform != 'wasi':\n        threading.Thread()",
        "def f():\n    try:\n        import requests\n    except ImportError:\n        pass",
        "import contextlib\ndef f():\n    with contextlib.suppress(ImportError):\n        import requests",
        "def save():\n    open('x', 'w')\ndef main():\n    save()\nif __name__ == '__main__':\n    main()",
        # Not in a function: what is imported is observed instead.
        "import threading\nthreading.Thread(target=print)",
    ],
)
def test_what_is_not_certain_is_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


@pytest.mark.parametrize(
    ("imports", "call", "told"),
    [
        ("from cerebelum import sleep", "await sleep(2)", 'sleep(2) is 2 milliseconds: write "2s" or a timedelta'),
        ("import cerebelum as c", "await c.sleep(0.5)", 'sleep(0.5) is 0.5 milliseconds: write "500ms" or'),
        ("from cerebelum import sleep", "await sleep(2.5)", 'sleep(2.5) is 2.5 milliseconds: write "2500ms" or'),
        ("from cerebelum import poll", "await poll(f, interval=5)", "interval=5 is 5 milliseconds"),
        ("from cerebelum import retry", "await retry(f, delay=1)", "delay=1 is 1 milliseconds"),
        ("from cerebelum import http", "await http.get('x', timeout=10)", "timeout=10 is 10 milliseconds"),
        ("from cerebelum import step", "@step(timeout=30)\n    async def g(): ...", "timeout=30 is 30 milliseconds"),
        (
            "from cerebelum import step",
            "@step(retry={'delay': 5})\n    async def g(): ...",
            "delay=5 is 5 milliseconds",
        ),
        (
            "from cerebelum import poll",
            "@poll(condition=bool, interval=5_000)\n    async def g(): ...",
            'interval=5000 is 5000 seconds here: write "5000ms" or a timedelta',
        ),
        (
            "from cerebelum import poll",
            "@poll(condition=bool, timeout=3_600_000)\n    async def g(): ...",
            'timeout=3600000 is 3600000 seconds here: write "3600000ms" or',
        ),
    ],
)
def test_a_duration_in_a_doubtful_unit_is_told(tmp_path: Path, imports: str, call: str, told: str) -> None:
    [line] = found(tmp_path, f"{imports}\n\nasync def f(context):\n    {call}\n")
    assert line.startswith(f"app.py:4: {told}")
    # What it says to write is a duration.
    assert all(ms(text) for text in re.findall(r'"(.*?)"', line))


@pytest.mark.parametrize(
    "call",
    [
        "sleep(2000), sleep(0), sleep('2ms'), sleep(n), sleep(timedelta(seconds=2)), asyncio.sleep(2)",
        "sleep(seconds=2), poll(condition=bool, interval=5, timeout=60), poll(f, interval=5_000, max_attempts=5)",
        "step(retry={'max_attempts': 5, 'delay': 1000, 'jitter': 0.2}), retry(f, max_attempts=3, backoff=2.0)",
        "httpx.get('x', timeout=10)",
    ],
)
def test_a_duration_that_is_plausible_is_left_alone(tmp_path: Path, call: str) -> None:
    text = f"import asyncio\nfrom cerebelum import poll, retry, sleep, step\nfrom mine import httpx\nX = ({call})\n"
    assert found(tmp_path, text) == []


def test_a_step_that_main_calls_as_well_is_looked_at(tmp_path: Path) -> None:
    text = "@step\nasync def s(context):\n    open('x', 'w')\nif __name__ == '__main__':\n    s(None)\n"
    assert len(found(tmp_path, text)) == 1


def test_methods_lambdas_and_nested_functions_are_looked_at(tmp_path: Path) -> None:
    text = "import os\nclass C:\n    def m(self):\n        def inner():\n            return lambda: os.system('ls')\n"
    assert [line.split(":")[1] for line in found(tmp_path, text)] == ["5"]


def test_a_module_that_only_a_function_imports_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "late.py").write_text("import os\ndef f():\n    os.system('ls')\n")
    assert found(tmp_path, "def f():\n    from parts import late\n")[0].startswith("late.py:3: os.system: ")


def test_an_expression_that_is_nested_too_deeply_stops_nothing(tmp_path: Path) -> None:
    assert found(tmp_path, f"import os\nX = {'+'.join(['x'] * 3_000)}\ndef f():\n    os.system('ls')\n") == []


def test_a_file_that_cannot_be_parsed_is_left_to_the_import(tmp_path: Path) -> None:
    assert found(tmp_path, "def f(:\n") == []


def test_a_file_that_is_not_there_says_when_files_are_read(tmp_path: Path) -> None:
    read, read_flags = _unsupported.reading(open), _unsupported.reading_flags(os.open)
    for opened, arguments in ((read, ("r",)), (read_flags, (os.O_RDONLY,))):
        with pytest.raises(FileNotFoundError, match="read files at module level") as raised:
            opened(str(tmp_path / "rates.json"), *arguments)
        assert is_permanent(raised.value)
        assert raised.value.errno == errno.ENOENT


def test_refusals_are_put_into_modules_that_come_late() -> None:
    for name, use in (("tempfile", "mkdtemp"), ("concurrent.futures.process", "ProcessPoolExecutor")):
        module = importlib.util.module_from_spec(importlib.util.find_spec(name))  # type: ignore[arg-type]
        module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
        _unsupported.after_import(module)
        with pytest.raises(_unsupported.UnsupportedError) as raised:
            getattr(module, use)()
        assert is_permanent(raised.value)
