"""Tests of app.py: days pass in no time."""

import json

import pytest
from app import droplet_reminder, handed_over, reminders, settled, short_break

from cerebelum.testing import HttpRequest, HttpResponse, Local, approve, days, hours, minutes, reject, reply, seconds

ADA = {"base_url": "http://world", "email": "ada@example.com"}


class World:
    """Takes mails, and has a droplet that gets ready after some looks."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks
        self.mails: list[str] = []

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.url == "http://world/mails":
            self.mails.append(json.loads(request.body)["text"])
            return reply(201, len(self.mails))
        if request.method == "POST":
            return reply(201, {"id": 3})
        self.looks -= 1
        return reply(200, {"id": 3, "status": "new", "ip": None if self.looks >= 0 else "203.0.113.3"})


@pytest.mark.parametrize("local", [Local(), Local().hibernating()], ids=["in memory", "dropped at every wait"])
def test_two_mails_leave_a_day_apart(local: Local) -> None:
    world = World()
    run = local.on_http(world).run(reminders, ADA)
    assert (run.output, run.elapsed) == ([1, 2], days(1))
    assert world.mails == ["Welcome!", "How was your first day?"]


def test_a_day_is_a_step_of_its_own() -> None:
    world = World()
    run = Local().on_http(world).run(droplet_reminder, ADA)
    assert (run.output, run.elapsed) == (1, days(1))
    assert world.mails == ["Droplet 3 is a day old."]
    assert [call.ended - call.began for call in run.steps if call.ended] == [days(0), days(1), days(0)]


def test_a_break_lasts_a_quarter_of_an_hour() -> None:
    run = Local().run(short_break)
    assert (run.output, run.elapsed) == ("2000-01-01T00:15:00+00:00", minutes(15))


def test_a_decorated_step_sleeps_first() -> None:
    run = Local().run(settled, ADA)
    assert (run.output, run.elapsed) == ("settled", seconds(60))


def test_a_decorated_step_runs_until_its_result_is_good_and_then_a_person_has_an_hour() -> None:
    world = World(looks=4)
    run = Local().on_http(world).on_approval("hand_over", approve().after(minutes(59))).run(handed_over, ADA)
    assert (run.output, run.elapsed) == ({"ip": "203.0.113.3", "mail": 1}, seconds(20) + minutes(59))
    assert world.mails == ["Your droplet is at 203.0.113.3."]


def test_a_decorated_step_looks_twenty_times() -> None:
    run = Local().on_http(World(looks=20)).run(handed_over, ADA)
    assert run.failure is not None
    assert (run.failure.kind, run.elapsed) == ("poll-exhausted", seconds(95))


def test_without_a_yes_nothing_is_handed_over() -> None:
    world = World()
    no = Local().on_http(world).on_approval("hand_over", reject("not ours")).run(handed_over, ADA)
    assert no.failure is not None
    assert no.failure.kind == "rejected"
    assert "not ours" in no.failure.message
    silence = Local().on_http(world).run(handed_over, ADA)
    assert silence.failure is not None
    assert (silence.failure.kind, silence.elapsed) == ("approval-timeout", hours(1))
    assert world.mails == []
