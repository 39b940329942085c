"""Features of CPython that a component lacks: using one raises an error that names the alternative."""

from __future__ import annotations

import asyncio
import builtins
import errno
import io
import os
import socket
import subprocess
import sys
import threading
import zoneinfo
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from .errors import ContextError, make_permanent

THREADS = "there are no threads in a component: use asyncio.create_task, or asyncio.to_thread, which runs in line"
PROCESSES = "there are no processes in a component: call a service over HTTP that does what the program does"
SOCKETS = "there are no sockets in a component: use cerebelum.http, or httpx with cerebelum.httpx_transport.Transport"
FILES = "a component cannot write files: use io.BytesIO or io.StringIO, or a store behind HTTP"
MISSING = "there is no file {0!r} in a component: read files at module level, with a path that starts at your module"
FOLDERS = "a component has no folder for temporary files: use io.BytesIO or io.StringIO, or a store behind HTTP"
DATABASE = "a component cannot keep a database file: use sqlite3.connect(':memory:'), or a store behind HTTP"
INPUT = "a component has no terminal: take it as the workflow's input, or ask a person with approval(…)"
LOOPS = "a loop runs already: await the coroutine, or run it concurrently with asyncio.create_task"
ZONES = "there is no time zone {0!r} here: list tzdata in requirements.txt, and make ZoneInfo({0!r}) at module level"
# Flags that open a file for changes.
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class UnsupportedError(ContextError, OSError):
    """A feature of the operating system that a component does not have."""


class UnsupportedModuleError(ContextError, ModuleNotFoundError):
    """A module of the standard library that cannot work in a component."""


class MissingFileError(ContextError, FileNotFoundError):
    """A file that was not read while the component was built."""

    def __init__(self, file: object) -> None:
        super().__init__(MISSING.format(file))
        # OSError does not take them from the arguments of a subclass.
        self.errno, self.strerror, self.filename = errno.ENOENT, MISSING.format(file), file

    # OSError's own begins with the number.
    __str__ = Exception.__str__


class MissingZoneError(ContextError, zoneinfo.ZoneInfoNotFoundError):
    """A time zone that the component does not carry."""

    # KeyError's own shows the repr.
    __str__ = Exception.__str__


def refusing(why: str) -> Callable[..., NoReturn]:
    """A function that raises an error with this reason."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise UnsupportedError(why)

    return refuse


def install() -> None:
    """Replaces what no component has."""
    threading.Thread.start = refusing(THREADS)  # type: ignore[method-assign]
    replace(socket, ("getaddrinfo", "create_connection", "create_server", "gethostbyname", "socketpair"), SOCKETS)
    socket.socket.__init__ = refusing(SOCKETS)  # type: ignore[method-assign]
    subprocess.Popen.__init__ = refusing(PROCESSES)  # type: ignore[method-assign]
    # Not functions such as fork, by which libraries find out what the system can do.
    replace(os, ("system", "popen"), PROCESSES)
    asyncio.run = refusing(LOOPS)
    zones: Any = zoneinfo._common
    zones.load_tzdata = finding_zone(zones.load_tzdata)


def end_build() -> None:
    """Replaces what only a build has: files and a terminal."""
    builtins.open = io.open = reading(builtins.open)
    os.open = reading_flags(os.open)
    builtins.input = refusing(INPUT)
    replace(os, ("mkdir",), FILES)
    for name in AFTER_IMPORT.keys() & sys.modules.keys():
        after_import(sys.modules[name])


def after_import(module: ModuleType) -> None:
    """Replaces the unsupported parts of a module that was just imported."""
    if refuse := AFTER_IMPORT.get(module.__name__):
        refuse(module)


def refuse_folders(tempfile: Any) -> None:
    """Refuses folders for temporary files."""
    tempfile._get_default_tempdir = refusing(FOLDERS)


def refuse_pool(process: Any) -> None:
    """Refuses pools of processes."""
    process.ProcessPoolExecutor.__init__ = refusing(PROCESSES)


def refuse_databases(sqlite3: Any) -> None:
    """Refuses databases in files."""
    own = sqlite3.connect

    def connect(*args: Any, **kwargs: Any) -> Any:
        try:
            return own(*args, **kwargs)
        except sqlite3.OperationalError:
            error = sqlite3.OperationalError(DATABASE)
            make_permanent(error)
            raise error from None

    sqlite3.connect = connect


AFTER_IMPORT: dict[str, Callable[[Any], None]] = {
    "concurrent.futures.process": refuse_pool,
    "sqlite3": refuse_databases,
    "tempfile": refuse_folders,
}


def reading(own: Callable[..., Any]) -> Callable[..., Any]:
    """`open` for reading only."""

    def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(mode, str) and not {"w", "a", "x", "+"}.isdisjoint(mode) and not isinstance(file, int):
            raise UnsupportedError(FILES)
        try:
            return own(file, mode, *args, **kwargs)
        except FileNotFoundError:
            raise MissingFileError(file) from None

    return open


def reading_flags(own: Callable[..., int]) -> Callable[..., int]:
    """`os.open` for reading only."""

    def open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & WRITING:
            raise UnsupportedError(FILES)
        try:
            return own(path, flags, *args, **kwargs)
        except FileNotFoundError:
            raise MissingFileError(path) from None

    return open


def finding_zone(own: Callable[[str], Any]) -> Callable[[str], Any]:
    """Finds a time zone as the library does; a missing one raises an error with advice."""

    def load(key: str) -> Any:
        try:
            return own(key)
        except (ImportError, LookupError, OSError):
            raise MissingZoneError(ZONES.format(key)) from None

    return load


def replace(place: object, names: tuple[str, ...], why: str) -> None:
    """Replaces functions by ones that raise an error."""
    for name in names:
        setattr(place, name, refusing(why))


# Methods of CPython's event loops that a component's loop lacks.
LOOP_RUNS = ("run_forever", "run_until_complete", "set_task_factory", "add_signal_handler", "remove_signal_handler")
LOOP_SOCKETS = (
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_sendall",
    "start_tls",
)
LOOP_PROCESSES = ("subprocess_exec", "subprocess_shell")
