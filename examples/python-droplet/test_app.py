"""Tests of app.py: the real waiting times, on a clock that jumps."""

from datetime import timedelta

import pytest
from app import configured_droplet, create_droplet, quick_droplet, verified_droplet

from cerebelum.testing import HttpRequest, HttpResponse, Local, reply, seconds
from cerebelum.timeline import Workflow

ORDER = {"base_url": "http://cloud", "name": "web"}


class Cloud:
    """A cloud whose droplets get ready after some looks, and whose SSH servers refuse at first."""

    def __init__(self, looks: int, refusals: int) -> None:
        self.looks, self.refusals = looks, refusals
        self.asked: list[str] = []

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(f"{request.method} {request.url.removeprefix('http://cloud')}")
        if request.url.endswith("/ssh/203.0.113.1"):
            return reply(503, "refused") if self.count("/ssh") <= self.refusals else reply(200, "SSH-2.0")
        if request.url.endswith("/configure"):
            return reply(204)
        ready = self.count("GET /droplets/1") > self.looks
        return reply(200, {"id": 1, "status": "active" if ready else "new", "ip": "203.0.113.1" if ready else None})

    def count(self, what: str) -> int:
        return sum(what in asked for asked in self.asked)


# Three looks of 5 s; then 1 + 2 refusals, 5 s apart; doubling from 5 s; or 3 s and 5 s in loops.
@pytest.mark.parametrize(
    ("workflow", "elapsed", "configured"),
    [
        (quick_droplet, seconds(3 * 5 + 3 * 5), 0),
        (configured_droplet, seconds(3 * 5 + 5 + 10 + 20), 1),
        (verified_droplet, seconds(3 * 3 + 3 * 5), 1),
    ],
    ids=lambda part: getattr(part, "name", None),
)
def test_a_droplet_is_waited_for_as_long_as_it_takes(workflow: Workflow, elapsed: timedelta, configured: int) -> None:
    cloud = Cloud(looks=3, refusals=3)
    run = Local().on_http(cloud).run(workflow, ORDER)
    assert run.output == ({"name": "web", "banner": "SSH-2.0"} if configured else "SSH-2.0")
    assert run.elapsed == elapsed
    counts = [cloud.count(what) for what in ("POST /droplets", "GET /droplets/1", "/ssh", "/configure")]
    assert counts == [1 + configured, 4, 4, configured]


@pytest.mark.parametrize(
    ("workflow", "kind", "type", "elapsed"),
    [
        (quick_droplet, "poll-exhausted", None, seconds(29 * 5)),
        (configured_droplet, "poll-exhausted", None, seconds(29 * 5)),
        (verified_droplet, "exception", "TimeoutError", seconds(30 * 3)),
    ],
    ids=lambda part: getattr(part, "name", None),
)
def test_thirty_looks_are_enough(workflow: Workflow, kind: str, type: str | None, elapsed: timedelta) -> None:
    cloud = Cloud(looks=1_000, refusals=0)
    run = Local().on_http(cloud).run(workflow, ORDER)
    assert run.failure is not None
    assert (run.failure.kind, run.failure.type) == (kind, type)
    assert (cloud.count("GET /droplets/1"), run.elapsed) == (30, elapsed)


@pytest.mark.parametrize(
    ("workflow", "type", "elapsed"),
    [
        (quick_droplet, "SSHConnectionError", seconds(9 * 5)),
        (configured_droplet, "SSHConnectionError", seconds(5 * (2**9 - 1))),
        (verified_droplet, "ConnectionError", seconds(10 * 5)),
    ],
    ids=lambda part: getattr(part, "name", None),
)
def test_ten_ssh_attempts_are_enough(workflow: Workflow, type: str, elapsed: timedelta) -> None:
    cloud = Cloud(looks=0, refusals=1_000)
    run = Local().on_http(cloud).run(workflow, ORDER)
    assert run.failure is not None
    assert (run.failure.kind, run.failure.type) == ("exception", type)
    assert (cloud.count("/ssh"), cloud.count("/configure"), run.elapsed) == (10, 0, elapsed)


def test_only_refused_connections_are_tried_again() -> None:
    cloud = Cloud(looks=0, refusals=0)

    def server(request: HttpRequest) -> HttpResponse:
        if "/ssh/" in request.url:
            cloud.asked.append(request.url)
            raise OSError("no route")
        return cloud(request)

    run = Local().on_http(server).run(configured_droplet, ORDER)
    assert run.failure is not None
    assert (run.failure.type, cloud.count("/ssh/")) == ("OSError", 1)


def test_a_droplet_is_ordered_again_when_the_cloud_was_away() -> None:
    run = Local().on_http(Cloud(0, 0)).fail(create_droplet, times=4).run(quick_droplet, ORDER)
    assert run.output == "SSH-2.0"
    assert (run.steps[0].attempts, run.elapsed) == (5, seconds(1 + 2 + 4 + 8))
