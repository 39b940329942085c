"""What CPython has and a component has not, as errors that say what to use instead."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import OutsideError

THREADS = "there are no threads in a component: use asyncio.create_task, or asyncio.to_thread, which runs in line"
PROCESSES = "there are no processes in a component: put what the program does into a step of another kind"
SOCKETS = "there are no sockets in a component: use cerebelum.http, or httpx with cerebelum.httpx_transport.Transport"


class NotThere(OutsideError, OSError):
    """Something of the operating system that a component does not have."""


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
