"""Waiting for others: a certificate, a database, a build, a health check. Each waits in a step of its own.

A step that only waits is one that a status shows, a test replaces, and a restart repeats none of the steps before.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypedDict

from cerebelum import Context, component, http, poll, step, workflow
from cerebelum.timeline import WorkflowBuilder


async def post(url: str, body: object = None) -> http.Response:
    """Posts, and does not put up with a status of 400 or more."""
    return (await http.post(url, json=body)).raise_for_status()


async def look(url: str, shape: type) -> object:
    """How something stands."""
    return (await http.get(url)).raise_for_status().json(shape)


# A certificate: at most five minutes, however many looks that are.


@dataclass
class CertificateOrder:
    """Which certificate, from whom."""

    base_url: str
    domain: str
    poll_ms: int = 10_000
    timeout_ms: int = 5 * 60_000


class Certificate(TypedDict):
    """A certificate as the authority knows it; `pem` is null until it is issued."""

    id: int
    status: Literal["pending", "issued"]
    pem: str | None


@step
async def request_cert(context: Context, inputs: CertificateOrder) -> Certificate:
    """Requests the certificate."""
    certificate: Certificate = (await post(f"{inputs.base_url}/certificates", inputs.domain)).json(Certificate)
    return certificate


@step(retry=1)
async def poll_cert_issued(context: Context, inputs: CertificateOrder, request_cert: Certificate) -> Certificate:
    """Looks until it is issued."""
    issued: Certificate = await poll(
        lambda: look(f"{inputs.base_url}/certificates/{request_cert['id']}", Certificate),
        interval=timedelta(milliseconds=inputs.poll_ms),
        # The timeout is what ends it.
        max_attempts=1_000,
        timeout=timedelta(milliseconds=inputs.timeout_ms),
        success_condition=lambda certificate: certificate["status"] == "issued",
    )
    return issued


@step
async def configure(context: Context, inputs: CertificateOrder, poll_cert_issued: Certificate) -> int:
    """Installs it; yields its number."""
    await post(f"{inputs.base_url}/certificates/{poll_cert_issued['id']}/install", poll_cert_issued["pem"])
    return poll_cert_issued["id"]


@workflow
def certificate(wf: WorkflowBuilder) -> None:
    """Gets and installs a certificate."""
    wf.timeline(request_cert >> poll_cert_issued >> configure)


# A database: at most 30 looks.


@dataclass
class DatabaseOrder:
    """Which database, and where."""

    base_url: str
    name: str
    poll_ms: int = 2_000


class Database(TypedDict):
    """A database as its host knows it."""

    id: int
    connectable: bool


@step
async def create_db(context: Context, inputs: DatabaseOrder) -> Database:
    """Creates the database."""
    database: Database = (await post(f"{inputs.base_url}/databases", inputs.name)).json(Database)
    return database


@step(retry=1)
async def poll_db_ready(context: Context, inputs: DatabaseOrder, create_db: Database) -> Database:
    """Looks until it can be connected to: a minute."""
    database: Database = await poll(
        lambda: look(f"{inputs.base_url}/databases/{create_db['id']}", Database),
        interval=timedelta(milliseconds=inputs.poll_ms),
        max_attempts=30,
        success_condition=lambda database: database["connectable"] is True,
    )
    return database


@step
async def migrate(context: Context, inputs: DatabaseOrder, poll_db_ready: Database) -> int:
    """Brings its tables up to date; yields its number."""
    await post(f"{inputs.base_url}/databases/{poll_db_ready['id']}/migrate")
    return poll_db_ready["id"]


@workflow
def database(wf: WorkflowBuilder) -> None:
    """Creates a database and migrates it as soon as it answers."""
    wf.timeline(create_db >> poll_db_ready >> migrate)


# A build ends well or badly, and either way the waiting is over.


@dataclass
class Release:
    """Which commit to release, and where."""

    base_url: str
    commit: str
    build_poll_ms: int = 30_000
    health_poll_ms: int = 5_000


class Build(TypedDict):
    """A build as its server knows it."""

    id: int
    status: Literal["running", "success", "failure"]
    error: str | None


@step
async def trigger_build(context: Context, inputs: Release) -> Build:
    """Triggers the build."""
    build: Build = (await post(f"{inputs.base_url}/builds", inputs.commit)).json(Build)
    return build


@step(retry=1)
async def poll_build_status(context: Context, inputs: Release, trigger_build: Build) -> Build:
    """Looks until the build has ended, half an hour at most; fails with what the build said if it failed."""
    build: Build = await poll(
        lambda: look(f"{inputs.base_url}/builds/{trigger_build['id']}", Build),
        interval=timedelta(milliseconds=inputs.build_poll_ms),
        max_attempts=60,
        success_condition=lambda build: build["status"] in ("success", "failure"),
    )
    if build["status"] == "failure":
        raise RuntimeError(build["error"] or "the build failed without saying why")
    return build


@step
async def deploy(context: Context, inputs: Release) -> int:
    """Deploys the commit; yields the deployment's number."""
    number: int = (await post(f"{inputs.base_url}/deployments", inputs.commit)).json(int)
    return number


@workflow
def ci_build(wf: WorkflowBuilder) -> None:
    """Builds a commit and deploys it."""
    wf.timeline(trigger_build >> poll_build_status >> deploy)


# A health check, with the helper's own defaults: 30 looks, 5 s apart.


class Deployment(TypedDict):
    """A deployment as its host knows it."""

    id: int
    status: Literal["starting", "healthy"]


@step(retry=1)
async def poll_health(context: Context, inputs: Release, deploy: int) -> Deployment:
    """Looks until the deployment is healthy."""
    healthy: Deployment = await poll(
        lambda: look(f"{inputs.base_url}/deployments/{deploy}", Deployment),
        interval=timedelta(milliseconds=inputs.health_poll_ms),
        success_condition=lambda deployment: deployment["status"] == "healthy",
    )
    return healthy


@step
async def notify(context: Context, inputs: Release, poll_health: Deployment) -> str:
    """Tells the team; yields what it was told."""
    text = f"{inputs.commit} is {poll_health['status']}"
    await post(f"{inputs.base_url}/mails", text)
    return text


@workflow
def health_check(wf: WorkflowBuilder) -> None:
    """Deploys a commit and says when it is healthy."""
    wf.timeline(deploy >> poll_health >> notify)


component(hosts=["127.0.0.1", "localhost"])
