"""Tests of app.py: a day passes in no time."""

from app import deploy, deployment, progress_deployment, verify, wait_for_deployment

from cerebelum.testing import HttpRequest, HttpResponse, Local, days, reply, seconds

RELEASE = {"base_url": "http://host", "version": "1.2"}


def server(request: HttpRequest) -> HttpResponse:
    return reply(201, 1) if request.method == "POST" else reply(200, {"id": 1, "status": "healthy"})


def test_a_deployment_is_verified_after_a_day() -> None:
    run = Local().on_http(server).run(deployment, RELEASE)
    assert run.output == {"id": 1, "was": "deployed", "is": "healthy"}
    assert run.elapsed == days(1)
    assert [(call.name, call.attempts) for call in run.steps] == [
        ("deploy", 1),
        ("wait_for_deployment", 1),
        ("verify", 1),
    ]
    assert run.calls(verify)[0]["wait_for_deployment"] == "deployed"


def test_what_cannot_be_deployed_is_not_waited_for() -> None:
    run = Local().on_http(lambda request: reply(403)).run(deployment, RELEASE)
    assert (run.status, run.elapsed) == ("failed", days(0))
    assert (len(run.calls(deploy)), run.calls(wait_for_deployment)) == (1, [])


def test_a_verification_that_fails_is_tried_again_and_the_day_is_not() -> None:
    run = Local().on_http(server).fail(verify, times=2).run(deployment, RELEASE)
    assert run.output["is"] == "healthy"
    assert [call.attempts for call in run.steps] == [1, 1, 3]
    assert run.elapsed == days(1) + seconds(1 + 2)


def test_progress_goes_in_thirds() -> None:
    run = Local().on_http(server).run(progress_deployment, RELEASE)
    assert run.output == "1.2"
    assert [(report.percent, report.message) for report in run.progress] == [
        (0, "Deploying the droplet"),
        (33, "Deploying the database"),
        (66, "Deploying the application"),
        (100, "Everything is deployed"),
    ]
