"""What CPython has and a component has not, as errors that say what to use instead."""

from __future__ import annotations

import builtins
import io
import os
import socket
import subprocess
import threading
import zoneinfo
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import OutsideError

THREADS = "there are no threads in a component: use asyncio.create_task, or asyncio.to_thread, which runs in line"
PROCESSES = "there are no processes in a component: put what the program does into a step of another kind"
SOCKETS = "there are no sockets in a component: use cerebelum.http, or httpx with cerebelum.httpx_transport.Transport"
FILES = "a component cannot write files: use io.BytesIO or io.StringIO, or a store behind HTTP"
ZONES = "there is no time zone {0!r} here: list tzdata in requirements.txt, and make ZoneInfo({0!r}) at module level"
# What opening a file with one of these would change.
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class NotThere(OutsideError, OSError):
    """Something of the operating system that a component does not have."""


class NoModule(OutsideError, ModuleNotFoundError):
    """A module of the library that could not do its work in a component."""


class NoZone(OutsideError, zoneinfo.ZoneInfoNotFoundError):
    """A time zone that the component does not carry."""

    # That of a KeyError would show the quotes of its repr.
    __str__ = Exception.__str__


def refusing(why: str) -> Callable[..., NoReturn]:
    """A function that says why not."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotThere(why)

    return refuse


def install() -> None:
    """Puts the refusals in place."""
    threading.Thread.start = refusing(THREADS)  # type: ignore[method-assign]
    replace(socket, ("getaddrinfo", "create_connection", "create_server", "gethostbyname", "socketpair"), SOCKETS)
    socket.socket.__init__ = refusing(SOCKETS)  # type: ignore[method-assign]
    subprocess.Popen.__init__ = refusing(PROCESSES)  # type: ignore[method-assign]
    # Not those that the library looks for to know what the system can do, such as fork.
    replace(os, ("system", "popen"), PROCESSES)
    zones: Any = zoneinfo._common
    zones.load_tzdata = finding_zone(zones.load_tzdata)


def refuse_writing() -> None:
    """Refuses to open files for writing, with what to do instead; reading fails by itself."""
    builtins.open = io.open = reading(builtins.open)
    os.open = reading_flags(os.open)


def reading(own: Callable[..., Any]) -> Callable[..., Any]:
    """`open` for reading only."""

    def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(mode, str) and not {"w", "a", "x", "+"}.isdisjoint(mode) and not isinstance(file, int):
            raise NotThere(FILES)
        return own(file, mode, *args, **kwargs)

    return open


def reading_flags(own: Callable[..., int]) -> Callable[..., int]:
    """`os.open` for reading only."""

    def open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & WRITING:
            raise NotThere(FILES)
        return own(path, flags, *args, **kwargs)

    return open


def finding_zone(own: Callable[[str], Any]) -> Callable[[str], Any]:
    """Finds a time zone as the library does, and says what to do when there is none."""

    def load(key: str) -> Any:
        try:
            return own(key)
        except (ImportError, LookupError, OSError):
            raise NoZone(ZONES.format(key)) from None

    return load


def replace(place: object, names: tuple[str, ...], why: str) -> None:
    """Makes functions refuse."""
    for name in names:
        setattr(place, name, refusing(why))


LOOPS = "a loop runs already: await the coroutine, or run it beside others with asyncio.create_task"

# What an event loop offers elsewhere.
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
