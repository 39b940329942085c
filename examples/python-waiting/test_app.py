"""Tests of app.py: the real waiting times, on a clock that jumps."""

from typing import Any

import pytest
from app import certificate, ci_build, database, deploy, health_check, poll_build_status

from cerebelum.testing import HttpRequest, HttpResponse, Local, Run, minutes, reply, seconds
from cerebelum.timeline import Workflow

CERTIFICATE = {"base_url": "http://world", "domain": "example.com"}
DATABASE = {"base_url": "http://world", "name": "main"}
RELEASE = {"base_url": "http://world", "commit": "c0ffee"}


class World:
    """Shows the same thing for a number of looks, and then another one."""

    def __init__(self, looks: int, before: dict[str, Any], after: dict[str, Any]) -> None:
        self.looks, self.before, self.after = looks, before, after
        self.seen = 0
        self.posts: list[str] = []

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.url.removeprefix("http://world")
        if request.method == "GET":
            self.seen += 1
            return reply(200, self.after if self.seen > self.looks else self.before)
        self.posts.append(path)
        return reply(201, 1 if path in ("/deployments", "/mails") else self.before)


def certificates(looks: int) -> World:
    pending = {"id": 4, "status": "pending", "pem": None}
    return World(looks, pending, pending | {"status": "issued", "pem": "PEM"})


def databases(looks: int) -> World:
    return World(looks, {"id": 4, "connectable": False}, {"id": 4, "connectable": True})


def builds(looks: int, **ending: str | None) -> World:
    running = {"id": 9, "status": "running", "error": None}
    return World(looks, running, running | {"status": "success"} | ending)


def deployments(looks: int) -> World:
    return World(looks, {"id": 1, "status": "starting"}, {"id": 1, "status": "healthy"})


def failed(run: Run) -> tuple[str, str]:
    assert run.failure is not None
    return run.failure.kind, run.failure.message


def test_a_certificate_is_installed_once_it_is_issued() -> None:
    world = certificates(looks=3)
    run = Local().on_http(world).run(certificate, CERTIFICATE)
    assert (run.output, run.elapsed) == (4, seconds(30))
    assert world.posts == ["/certificates", "/certificates/4/install"]


def test_a_certificate_is_given_up_after_five_minutes() -> None:
    world = certificates(looks=1_000)
    run = Local().on_http(world).run(certificate, CERTIFICATE)
    assert failed(run) == ("poll-timeout", "Polling timed out after 300000ms (timeout: 300000ms)")
    assert (world.seen, run.elapsed) == (30, minutes(5))
    assert world.posts == ["/certificates"]


def test_a_database_is_migrated_once_it_answers() -> None:
    world = databases(looks=7)
    run = Local().on_http(world).run(database, DATABASE)
    assert (run.output, run.elapsed) == (4, seconds(14))
    assert world.posts == ["/databases", "/databases/4/migrate"]


def test_a_database_is_given_up_after_thirty_looks() -> None:
    world = databases(looks=30)
    run = Local().on_http(world).run(database, DATABASE)
    assert failed(run) == ("poll-exhausted", "Polling failed after 30 attempts (interval: 2000ms)")
    assert (world.seen, run.elapsed) == (30, seconds(58))


def test_a_build_that_succeeds_is_deployed() -> None:
    world = builds(looks=10)
    run = Local().on_http(world).run(ci_build, RELEASE)
    assert (run.output, run.elapsed) == (1, minutes(5))
    assert world.posts == ["/builds", "/deployments"]


@pytest.mark.parametrize("said", ["2 of 7 tests failed", None])
def test_a_build_that_fails_ends_the_wait_with_its_error(said: str | None) -> None:
    world = builds(looks=2, status="failure", error=said)
    run = Local().on_http(world).run(ci_build, RELEASE)
    assert failed(run) == ("exception", said or "the build failed without saying why")
    assert run.failure is not None
    assert run.failure.type == "RuntimeError"
    assert (run.elapsed, len(run.calls(poll_build_status)), run.calls(deploy)) == (minutes(1), 1, [])


def test_a_build_is_given_up_after_half_an_hour() -> None:
    run = Local().on_http(builds(looks=60)).run(ci_build, RELEASE)
    assert failed(run)[0] == "poll-exhausted"
    assert run.elapsed == minutes(29.5)


def test_the_team_is_told_when_a_deployment_is_healthy() -> None:
    world = deployments(looks=4)
    run = Local().on_http(world).run(health_check, RELEASE)
    assert (run.output, run.elapsed) == ("c0ffee is healthy", seconds(20))
    assert world.posts == ["/deployments", "/mails"]


@pytest.mark.parametrize(
    ("workflow", "inputs"),
    [(certificate, CERTIFICATE), (database, DATABASE), (ci_build, RELEASE), (health_check, RELEASE)],
    ids=["certificate", "database", "build", "health"],
)
def test_a_server_that_refuses_fails_the_first_step_for_good(workflow: Workflow, inputs: dict[str, str]) -> None:
    run = Local().on_http(lambda request: reply(403, "no")).run(workflow, inputs)
    assert failed(run)[0] == "http-status"
    assert [call.attempts for call in run.steps] == [1]
