"""Watches the import of a module: its use of clocks, randomness and the operating system, and the files it reads."""

from __future__ import annotations

import datetime
import os
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Any

CLOCKS = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
DATES = {"now", "utcnow", "today"}
UNIQUE = {"uuid1", "uuid4"}
# The audit events of the interpreter, and what they mean to the author.
EVENTS = {
    "socket.__new__": "sockets",
    "socket.getaddrinfo": "sockets",
    "subprocess.Popen": "processes",
    "os.system": "processes",
    "os.fork": "processes",
    "os.posix_spawn": "processes",
    "os.exec": "processes",
}
STDLIB = os.path.dirname(os.path.realpath(os.__file__)) + os.sep
ASYNCIO = os.path.join(STDLIB, "asyncio") + os.sep


@dataclass(frozen=True)
class Seen:
    """An observation, with the author's line that caused it."""

    file: str
    line: int
    what: str


class ImportAudit:
    """Use it as `with ImportAudit(is_authors): import_module(…)`."""

    def __init__(self, is_authors: Callable[[str], bool]) -> None:
        self._is_authors = is_authors
        self._is_on = False
        # In the order of observation, each place once.
        self.frozen: dict[Seen, None] = {}
        self.unsupported: dict[Seen, None] = {}
        self.read: dict[str, None] = {}
        self._modules = {file: name for name, file in python_files().items()}

    def __enter__(self) -> ImportAudit:
        self._is_on = True
        # An audit hook cannot be removed: it checks whether it is active.
        sys.addaudithook(self._hear)
        sys.setprofile(self._see)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        self._is_on = False

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            name, caller = name_of_builtin(argument), frame
        elif frame.f_code is threading.Thread.start.__code__:
            self._note_unsupported("threads")
            return
        elif event == "call" and frame.f_back is not None:
            name, caller = self._name_of_function(frame.f_code, frame), frame.f_back
        else:
            return
        if name is not None and self._is_authors(caller.f_code.co_filename):
            self.frozen[Seen(caller.f_code.co_filename, caller.f_lineno, name)] = None

    def _name_of_function(self, code: CodeType, frame: FrameType) -> str | None:
        module = self._modules.get(code.co_filename)
        if module is None or code.co_name.startswith("<"):
            return None
        if module == "uuid" and code.co_name not in UNIQUE:
            return None
        if code.co_name == "__init__":
            # A generator with a seed of its own is meant to repeat.
            return "random.Random" if frame.f_locals.get("x", frame) is None else None
        if module == "random" and not isinstance(frame.f_locals.get("self"), random.SystemRandom):
            is_global = frame.f_locals.get("self") is getattr(random, "_inst", None)
            return f"random.{code.co_name}" if is_global else None
        return f"{module}.{code.co_name}"

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event == "open" and isinstance(arguments[0], str):
            if os.path.isabs(arguments[0]) and self._is_authors(arguments[0]):
                self.read[arguments[0]] = None
        elif event in EVENTS:
            self._note_unsupported(EVENTS[event])

    def _note_unsupported(self, what: str) -> None:
        caller = first_foreign(sys._getframe())
        # A library may try what it likes.
        if caller is not None and self._is_authors(caller.f_code.co_filename):
            self.unsupported[Seen(caller.f_code.co_filename, caller.f_lineno, what)] = None


def python_files() -> dict[str, str]:
    """Modules written in Python that draw random numbers, with the file name that their code carries."""
    functions = {"random": random.Random.choice, "secrets": secrets.token_hex, "uuid": uuid.uuid4}
    return {name: function.__code__.co_filename for name, function in functions.items()}


def name_of_builtin(function: Any) -> str | None:
    """The name of a function in C, if it reads a clock or draws random numbers."""
    name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    if owner is time and name in CLOCKS:
        return f"time.{name}"
    if name in DATES and isinstance(owner, type) and issubclass(owner, datetime.date):
        return f"{'datetime' if issubclass(owner, datetime.datetime) else 'date'}.{name}"
    if name == "urandom" and getattr(function, "__module__", "") == os.name:
        return "os.urandom"
    if owner is getattr(random, "_inst", random) and name in ("random", "getrandbits", "seed"):
        return f"random.{name}"
    return None


def first_foreign(frame: FrameType | None) -> FrameType | None:
    """The innermost caller outside of this module and the standard library; None for the needs of an event loop."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ASYNCIO):
            return None
        if file != __file__ and not file.startswith(("<", STDLIB)):
            return frame
        frame = frame.f_back
    return None
