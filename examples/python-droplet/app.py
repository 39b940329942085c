"""Deploys a droplet in three ways, from the barest to the most explicit; each is a workflow of its own.

A droplet has no address at first, and its SSH server refuses connections for a while. SSH goes through a proxy that
speaks HTTP: guests have no sockets.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict

from cerebelum import Context, component, http, poll, retry, step, workflow
from cerebelum.timeline import WorkflowBuilder


@dataclass
class Order:
    """What to deploy, where the cloud is, and how patient to be."""

    base_url: str
    name: str
    poll_ms: int = 5_000
    """Between two looks for the address, in the first two ways."""
    ssh_delay_ms: int = 5_000
    """Before the second SSH attempt, doubling from then on."""
    look_seconds: float = 3.0
    """Between two looks in the third way."""
    ssh_seconds: float = 5.0
    """Between two SSH attempts in the third way."""


class Droplet(TypedDict):
    """A droplet as the cloud knows it; `ip` is null until it is active."""

    id: int
    status: str
    ip: str | None


class SSHConnectionError(ConnectionError):
    """The SSH server refused."""


async def look_at(order: Order, id: int) -> Droplet:
    """How the droplet stands."""
    reply = await http.get(f"{order.base_url}/droplets/{id}")
    droplet: Droplet = reply.raise_for_status().json(Droplet)
    return droplet


async def say_hello(order: Order, ip: str) -> str:
    """Connects once and returns what the SSH server says."""
    reply = await http.post(f"{order.base_url}/ssh/{ip}")
    if not reply.ok:
        raise SSHConnectionError(f"{ip}: {reply.text}")
    return reply.text


@step(retry={"max_attempts": 5, "delay": "1s", "backoff": 2.0}, timeout="30s")
async def create_droplet(context: Context, inputs: Order) -> Droplet:
    """Orders the droplet. A repetition carries the same idempotency key, so that none is paid for twice."""
    reply = await http.post(f"{inputs.base_url}/droplets", json={"name": inputs.name})
    droplet: Droplet = reply.raise_for_status().json(Droplet)
    return droplet


# The first way: each step does one thing, with a helper's defaults where they fit.


@step(retry=1)
async def wait_for_ip(context: Context, inputs: Order, create_droplet: Droplet) -> str:
    """Looks until the droplet has an address; between two looks nothing is in memory."""
    droplet = await poll(
        lambda: look_at(inputs, create_droplet["id"]),
        interval=timedelta(milliseconds=inputs.poll_ms),
        max_attempts=30,
        success_condition=lambda droplet: droplet["status"] == "active",
    )
    return str(droplet["ip"])


@step(retry=1)
async def connect_ssh(context: Context, inputs: Order, wait_for_ip: str) -> str:
    """Tries until the server answers; yields its banner."""
    banner: str = await retry(
        say_hello, inputs, wait_for_ip, max_attempts=10, delay=timedelta(milliseconds=inputs.ssh_delay_ms)
    )
    return banner


@workflow
def quick_droplet(wf: WorkflowBuilder) -> None:
    """Ends with the banner of the droplet's SSH server."""
    wf.timeline(create_droplet >> wait_for_ip >> connect_ssh)


# The second way: waiting is told to the log, and only a refused connection is worth another attempt.


@step(retry=1)
async def wait_for_droplet_ip(context: Context, inputs: Order, create_droplet: Droplet) -> str:
    """The same as `wait_for_ip`, told as it goes."""
    droplet = await poll(
        lambda: look_at(inputs, create_droplet["id"]),
        interval=timedelta(milliseconds=inputs.poll_ms),
        max_attempts=30,
        success_condition=lambda droplet: droplet["ip"] is not None,
        on_attempt=lambda number, droplet: context.log(f"look {number}: {droplet['status']}"),
    )
    return str(droplet["ip"])


@step(retry=1)
async def configure_server(
    context: Context,
    inputs: Order,
    create_droplet: Droplet,
    wait_for_droplet_ip: str | None = None,
    verify_ssh_access: str | None = None,
) -> dict[str, str]:
    """Configures the server. The last two have defaults, so the step stands in timelines that have one or the other."""
    banner = verify_ssh_access
    if banner is None:
        # Nobody has been there yet: 5 s, 10 s, 20 s, 40 s … between attempts.
        banner = await retry(
            lambda: say_hello(inputs, str(wait_for_droplet_ip)),
            max_attempts=10,
            delay=timedelta(milliseconds=inputs.ssh_delay_ms),
            backoff=2.0,
            on_error=SSHConnectionError,
            on_attempt=lambda number, last: context.log(f"SSH attempt {number}, before: {last}"),
        )
    url = f"{inputs.base_url}/droplets/{create_droplet['id']}/configure"
    (await http.post(url, json=banner)).raise_for_status()
    return {"name": inputs.name, "banner": str(banner)}


@workflow
def configured_droplet(wf: WorkflowBuilder) -> None:
    """Ends with a server that is configured."""
    wf.timeline(create_droplet >> wait_for_droplet_ip >> configure_server)


# The third way: no helpers, loops as one would write them anyway. `asyncio.sleep` is as durable as `sleep`.


@step(retry=1)
async def wait_for_droplet_ready(context: Context, inputs: Order, create_droplet: Droplet) -> str:
    """Looks 30 times, 3 s apart: a minute and a half."""
    for _ in range(30):
        droplet = await look_at(inputs, create_droplet["id"])
        if droplet["ip"] is not None:
            return droplet["ip"]
        await asyncio.sleep(inputs.look_seconds)
    raise TimeoutError(f"droplet {create_droplet['id']} has no address after {30 * inputs.look_seconds:g} s")


@step(retry=1)
async def verify_ssh_access(context: Context, inputs: Order, wait_for_droplet_ready: str) -> str:
    """Tries SSH 10 times, 5 s apart."""
    for attempt in range(1, 11):
        try:
            return await say_hello(inputs, wait_for_droplet_ready)
        except SSHConnectionError as error:
            context.log(f"attempt {attempt}: {error}", "warn")
        await asyncio.sleep(inputs.ssh_seconds)
    raise ConnectionError(f"{wait_for_droplet_ready} refused 10 SSH connections")


@workflow
def verified_droplet(wf: WorkflowBuilder) -> None:
    """Ends with a server that was reached before it was configured."""
    wf.timeline(create_droplet >> wait_for_droplet_ready >> verify_ssh_access >> configure_server)


component(hosts=["127.0.0.1", "localhost"])
