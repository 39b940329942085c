"""The calls that cannot work in a component, and what to use instead."""

from __future__ import annotations

import ast
from collections.abc import Callable

from . import _unsupported

HTTPX = (
    "it blocks, and nothing can block in a component: use `async with httpx.AsyncClient() as client: "
    "await client.get(…)`"
)
ENVIRONMENT = (
    "the environment of a component is empty: take it as the workflow's input, or, where it is a secret for a request, "
    "write http.secret(…)"
)
MISSING = "there is no module {0!r} in the component: name its package in requirements.txt"
NATIVE = "there is no module {0!r} in a component"

# Functions that fail with any arguments, and why.
ALWAYS = {
    **dict.fromkeys(
        (
            "_thread.start_new_thread",
            "concurrent.futures.ThreadPoolExecutor",
            "concurrent.futures.thread.ThreadPoolExecutor",
            "threading.Thread",
            "threading.Timer",
        ),
        _unsupported.THREADS,
    ),
    **dict.fromkeys(
        (
            "asyncio.create_subprocess_exec",
            "asyncio.create_subprocess_shell",
            "concurrent.futures.ProcessPoolExecutor",
            "concurrent.futures.process.ProcessPoolExecutor",
            "multiprocessing.Manager",
            "multiprocessing.Pool",
            "multiprocessing.Process",
            "multiprocessing.Queue",
            "os.fork",
            "os.popen",
            "os.system",
            "subprocess.Popen",
            "subprocess.call",
            "subprocess.check_call",
            "subprocess.check_output",
            "subprocess.getoutput",
            "subprocess.getstatusoutput",
            "subprocess.run",
        ),
        _unsupported.PROCESSES,
    ),
    **dict.fromkeys(
        (
            "asyncio.open_connection",
            "asyncio.start_server",
            "ftplib.FTP",
            "ftplib.FTP_TLS",
            "http.client.HTTPConnection",
            "http.client.HTTPSConnection",
            "imaplib.IMAP4",
            "imaplib.IMAP4_SSL",
            "poplib.POP3",
            "poplib.POP3_SSL",
            "smtplib.SMTP",
            "smtplib.SMTP_SSL",
            "socket.create_connection",
            "socket.create_server",
            "socket.getaddrinfo",
            "socket.gethostbyname",
            "socket.socket",
            "urllib.request.urlopen",
            "urllib.request.urlretrieve",
            "xmlrpc.client.ServerProxy",
        ),
        _unsupported.SOCKETS,
    ),
    **dict.fromkeys(
        ("httpx.delete", "httpx.get", "httpx.head", "httpx.options", "httpx.patch", "httpx.post", "httpx.put"), HTTPX
    ),
    **dict.fromkeys(
        (
            "tempfile.NamedTemporaryFile",
            "tempfile.TemporaryDirectory",
            "tempfile.TemporaryFile",
            "tempfile.mkdtemp",
            "tempfile.mkstemp",
        ),
        _unsupported.FOLDERS,
    ),
    **dict.fromkeys(("os.makedirs", "os.mkdir"), _unsupported.FILES),
    "builtins.input": _unsupported.INPUT,
}
PATHS = ("pathlib.Path", "pathlib.PosixPath")
PATHS_WRITING = ("mkdir", "touch", "write_bytes", "write_text")
# Modules of the standard library that need an operating system, or native code that a component does not have.
NATIVE_MODULES = frozenset(
    {
        "_ctypes",
        "bz2",
        "ctypes",
        "curses",
        "dbm",
        "fcntl",
        "grp",
        "lzma",
        "mmap",
        "pwd",
        "readline",
        "resource",
        "syslog",
        "termios",
        "tkinter",
        "tty",
    }
)


def literal(node: ast.expr) -> str | None:
    """The text of a string literal."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def has_keyword(call: ast.Call, name: str) -> bool:
    """Whether a call has this keyword, or may have it."""
    return any(keyword.arg in (name, None) for keyword in call.keywords)


def of_open(call: ast.Call) -> str | None:
    """`open` fails with a mode that writes."""
    modes = call.args[1:2] + [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    mode = literal(modes[0]) if modes else None
    is_number = bool(call.args) and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, int)
    is_writing = mode is not None and not {"w", "a", "x", "+"}.isdisjoint(mode)
    return _unsupported.FILES if is_writing and not is_number else None


def of_database(call: ast.Call) -> str | None:
    """`sqlite3.connect` fails with the name of a file."""
    name = literal(call.args[0]) if call.args else None
    return None if name in (None, "", ":memory:") or has_keyword(call, "uri") else _unsupported.DATABASE


def of_client(call: ast.Call) -> str | None:
    """`httpx.Client` fails unless it is given a transport of its own."""
    return None if has_keyword(call, "transport") else HTTPX


# What fails with some arguments: why, if it does.
SOMETIMES: dict[str | None, Callable[[ast.Call], str | None]] = {
    "builtins.open": of_open,
    "httpx.Client": of_client,
    "io.open": of_open,
    "sqlite3.connect": of_database,
}
