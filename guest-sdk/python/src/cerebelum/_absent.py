"""What CPython has and a component has not, as errors that say what to use instead."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from types import ModuleType
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
    replace(os, ("system", "popen", "execv", "execve"), PROCESSES)


def replace(module: ModuleType, names: tuple[str, ...], why: str) -> None:
    """Makes functions refuse. What is not there stays so: the library looks at names to know what it can do."""
    for name in names:
        if hasattr(module, name):
            setattr(module, name, refusing(why))


LOOP_METHODS = {
    "create_connection": SOCKETS,
    "create_server": SOCKETS,
    "create_datagram_endpoint": SOCKETS,
    "create_unix_connection": SOCKETS,
    "create_unix_server": SOCKETS,
    "getaddrinfo": SOCKETS,
    "getnameinfo": SOCKETS,
    "sock_connect": SOCKETS,
    "sock_accept": SOCKETS,
    "sock_recv": SOCKETS,
    "sock_sendall": SOCKETS,
    "subprocess_exec": PROCESSES,
    "subprocess_shell": PROCESSES,
}
