"""A deployment that is looked at again after a day, and one that says how far it is.

The first survives whatever happens to its engine during that day: kill it, and start it again when you like.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cerebelum import Context, component, http, sleep, step, workflow
from cerebelum.timeline import WorkflowBuilder


@dataclass
class Release:
    """What to deploy where, and for how long to wait."""

    base_url: str
    version: str
    wait_ms: int = 86_400_000
    """Until the deployment is looked at again; a day."""
    pause_ms: int = 1_000
    """Between the parts of the deployment that says how far it is."""


@step
async def deploy(context: Context, inputs: Release) -> dict[str, Any]:
    """Deploys; yields the number of the deployment."""
    reply = await http.post(f"{inputs.base_url}/deployments", json=inputs.version)
    return {"ok": {"id": reply.raise_for_status().json()}}


@step
async def wait_for_deployment(context: Context, inputs: Release) -> dict[str, Any]:
    """Lets it run for a day."""
    await sleep(timedelta(milliseconds=inputs.wait_ms))
    return {"ok": "deployed"}


@step
async def verify(context: Context, inputs: Release, deploy: dict[str, Any], wait_for_deployment: str) -> dict[str, Any]:
    """Looks at it."""
    reply = await http.get(f"{inputs.base_url}/deployments/{deploy['id']}")
    return {"ok": {"id": deploy["id"], "was": wait_for_deployment, "is": reply.raise_for_status().json()["status"]}}


@workflow
def deployment(wf: WorkflowBuilder) -> None:
    """Deploys, waits a day, verifies."""
    wf.timeline(deploy >> wait_for_deployment >> verify)


@step
async def deploy_in_parts(context: Context, inputs: Release) -> str:
    """Deploys part by part. An engine keeps the latest report, which a status shows; a console draws a bar."""
    parts = ["droplet", "database", "application"]
    for done, part in enumerate(parts):
        context.update_progress(100 * done // len(parts), f"Deploying the {part}")
        (await http.post(f"{inputs.base_url}/deployments", json=part)).raise_for_status()
        await sleep(timedelta(milliseconds=inputs.pause_ms))
    context.update_progress(100, "Everything is deployed")
    return inputs.version


@workflow
async def progress_deployment(context: Context, inputs: Release) -> str:
    """Deploys in three parts: 0, 33, 66, 100 percent."""
    return await deploy_in_parts(context, inputs)


component(hosts=["127.0.0.1", "localhost"])
