"""Asks the person at the terminal, one question at a time."""

from __future__ import annotations

import asyncio
import getpass
import json
import select
import sys
import threading
from typing import TYPE_CHECKING

from ._host import Approval
from ._local.people import in_thread, rejected
from .errors import Failure

if TYPE_CHECKING:
    from ._local.people import Asked

NO_TERMINAL = (
    "stdin is not a terminal, so the question cannot be asked: answer in the program with execute(…, approve=…)"
)
# How often a reader looks whether it is still wanted.
LOOK_S = 0.1


async def ask(asked: Asked) -> Approval:
    """Shows a question and reads the answer.

    # Raises
    Failure of kind `rejected`, or `failure` where there is no terminal.
    """
    if not is_terminal():
        raise Failure(f"'{asked.title}': {NO_TERMINAL}", kind="failure", retryable=False)
    print(shown(asked), flush=True)
    while True:
        said = await read(_prompt(asked))
        word = said.lower()
        if word in ("n", "no"):
            reason = await read("Reason: ")
            raise rejected(reason or "no reason given", user())
        text = said
        if word in ("y", "yes"):
            text = "null" if asked.schema is None else await read("Answer (JSON): ")
        try:
            json.loads(text)
        except ValueError:
            print(f'  {text!r} is not JSON: say y, n or a JSON value, such as {{"amount": 5}}')
            continue
        return Approval(text, user(), None)


def is_terminal() -> bool:
    """Whether there is a person to ask."""
    stdin = sys.stdin
    try:
        return stdin is not None and stdin.isatty()
    except ValueError:
        # It is closed.
        return False


def shown(asked: Asked) -> str:
    """A question as a person reads it."""
    where = asked.workflow if asked.step is None else f"{asked.workflow}, step {asked.step}"
    lines = ["", f"? {asked.title}  [{asked.kind}]", f"  {where}, execution {asked.execution_id}"]
    if asked.data is not None:
        lines += _indented(asked.data)
    if asked.schema is not None:
        lines += ["  The answer is JSON that fits:", *_indented(asked.schema)]
    return "\n".join(lines)


def _indented(value: object) -> list[str]:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return [f"  {line}" for line in text.splitlines()]


def _prompt(asked: Asked) -> str:
    answer = "" if asked.schema is None else " asks for the answer,"
    return f"  y ={answer or ' yes,'} n = no, or the answer as JSON: "


def user() -> str:
    """Who sits there."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "terminal"


async def read(prompt: str) -> str:
    """One line from the terminal, read in a thread that ends with this wait.

    # Raises
    Failure when the terminal is closed.
    """
    print(prompt, end="", flush=True)
    given_up = threading.Event()
    try:
        line: str | None = await in_thread(read_line, given_up)
    except asyncio.CancelledError:
        print("\n  (no longer wanted)", flush=True)
        raise
    finally:
        given_up.set()
    if not line:
        raise Failure("the terminal was closed before there was an answer", kind="failure", retryable=False)
    return line.strip()


def read_line(given_up: threading.Event) -> str | None:
    """A line of stdin, or None when it is no longer wanted: the line is left for the next question."""
    if sys.platform != "win32":
        while not select.select([sys.stdin], [], [], LOOK_S)[0] and not given_up.is_set():
            pass
        if given_up.is_set():
            return None
    return sys.stdin.readline()
