"""Welcomes somebody, waits, and says goodbye. Stop the engine in between: it goes on where it was."""

from datetime import timedelta
from typing import TypedDict

from cerebelum import Context, sleep, step, workflow


class Guest(TypedDict):
    """Whom to welcome; `input.json` has one."""

    name: str
    stay_seconds: float


# Steps are where things happen. A failed one is tried again, each runs in a sandbox of its own.
@step(retry={"max_attempts": 5, "delay": "1s"}, timeout="30s")
async def welcome(context: Context, guest: Guest) -> str:
    """Says hello."""
    print(f"{guest['name']} is here")
    return f"Welcome, {guest['name']}!"


@step
async def say_goodbye(context: Context, name: str) -> str:
    """Says goodbye."""
    print(f"{name} leaves")
    return f"Goodbye, {name}!"


# A workflow says what happens when. While it sleeps it is not in memory, and nothing in front is done twice.
@workflow
async def visit(context: Context, guest: Guest) -> list[str]:
    """A visit from hello to goodbye."""
    hello = await welcome(context, guest)
    await sleep(timedelta(seconds=guest["stay_seconds"]))
    goodbye = await say_goodbye(context, guest["name"])
    return [hello, goodbye]
