"""Pauses of minutes and days: inside a step, as a step of its own, in a workflow, and as decorators.

While it lasts a pause is one row in a database. The code goes on behind it, also on another machine.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

from cerebelum import Context, approval, component, http, poll, sleep, step, workflow
from cerebelum.timeline import WorkflowBuilder

DAY_MS = 86_400_000


@dataclass
class Reminder:
    """Whom to remind, and after how long."""

    base_url: str
    email: str
    pause_ms: int = DAY_MS


async def send(inputs: Reminder, text: str) -> int:
    """Sends a mail; yields its number."""
    reply = await http.post(f"{inputs.base_url}/mails", json={"to": inputs.email, "text": text})
    number: int = reply.raise_for_status().json(int)
    return number


@step
async def send_reminders(context: Context, inputs: Reminder) -> list[int]:
    """Welcomes, sleeps a day, reminds. What stands before the sleep is never done again."""
    welcome = await send(inputs, "Welcome!")
    await sleep(timedelta(milliseconds=inputs.pause_ms))
    reminder = await send(inputs, "How was your first day?")
    return [welcome, reminder]


@workflow
async def reminders(context: Context, inputs: Reminder) -> list[int]:
    """Two mails with a day between them; yields their numbers."""
    return await send_reminders(context, inputs)


# The pause as a step of a timeline.


@step
async def create_droplet(context: Context, inputs: Reminder) -> int:
    """Orders a droplet; yields its number."""
    reply = await http.post(f"{inputs.base_url}/droplets", json={"for": inputs.email})
    return int(reply.raise_for_status().json()["id"])


@step
async def wait_24h(context: Context, inputs: Reminder) -> None:
    """Lets a day pass."""
    await sleep(timedelta(milliseconds=inputs.pause_ms))


@step
async def send_reminder(context: Context, inputs: Reminder, create_droplet: int) -> int:
    """Reminds of the droplet; yields the mail's number."""
    return await send(inputs, f"Droplet {create_droplet} is a day old.")


@workflow
def droplet_reminder(wf: WorkflowBuilder) -> None:
    """A reminder a day after the droplet."""
    wf.timeline(create_droplet >> wait_24h >> send_reminder)


# The pause in the workflow itself.


@workflow
async def short_break(context: Context, minutes: float = 15) -> str:
    """Sleeps a quarter of an hour; yields when it woke."""
    await sleep(timedelta(minutes=minutes))
    return context.now().isoformat()


# The pause as a decorator, between `@step` and the function. What a decorator is given is part of the program.


class Droplet(TypedDict):
    """A droplet as the cloud knows it."""

    id: int
    status: str
    ip: str | None


@step
@sleep(seconds=60)
async def let_it_settle(context: Context, inputs: Reminder) -> str:
    """Runs a minute after it was called."""
    return "settled"


@step(retry=1)
@poll(condition=lambda droplet: droplet["ip"] is not None, interval=timedelta(seconds=5), max_attempts=20)
async def find_ip(context: Context, inputs: Reminder, create_droplet: int) -> Droplet:
    """Runs again every 5 s until its result is good, 20 times at most."""
    reply = await http.get(f"{inputs.base_url}/droplets/{create_droplet}")
    droplet: Droplet = reply.raise_for_status().json(Droplet)
    return droplet


@step(retry=1)
@approval(type="manual", timeout=timedelta(hours=1))
async def hand_over(context: Context, inputs: Reminder, find_ip: Droplet) -> dict[str, Any]:
    """Runs once a person agrees, who has an hour for that."""
    mail = await send(inputs, f"Your droplet is at {find_ip['ip']}.")
    return {"ip": find_ip["ip"], "mail": mail}


@workflow
def settled(wf: WorkflowBuilder) -> None:
    """One step with a pause before it."""
    wf.timeline(let_it_settle)


@workflow
def handed_over(wf: WorkflowBuilder) -> None:
    """Waits for a machine, then for a person."""
    wf.timeline(create_droplet >> find_ip >> hand_over)


component(hosts=["127.0.0.1", "localhost"])
