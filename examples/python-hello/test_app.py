"""Tests of app.py: workflows run in this process."""

import json

from app import double, greet, hello, welcome

from cerebelum.testing import HttpRequest, HttpResponse, Local, reply


def test_a_mail_goes_to_the_user_that_was_found() -> None:
    sent = []

    def server(request: HttpRequest) -> HttpResponse:
        sent.append((request.method, request.url, json.loads(request.body)))
        return reply(201, 5)

    run = Local().on_http(server).run(welcome, {"user_id": "7", "base_url": "http://mail"})
    assert run.output == {"sent_to": "ada@example.com", "number": 5}
    assert sent == [("POST", "http://mail/mails", {"to": "ada@example.com", "text": "Hello, Ada!"})]


def test_an_unknown_user_fails_the_execution_and_nothing_is_sent() -> None:
    run = Local().run(welcome, {"user_id": "8", "base_url": "http://mail"})
    assert run.status == "failed"
    assert run.failure is not None
    assert (run.failure.kind, run.failure.message) == ("failure", "there is no user 8")
    assert [(call.name, call.attempts) for call in run.steps] == [("fetch_user", 1)]


def test_a_number_is_handed_on() -> None:
    assert Local().run(double).output == 84


def test_hello_greets_by_name() -> None:
    run = Local().run(hello, "Ada")
    assert run.output == "Hello, Ada!"
    assert [line.message for line in run.logs] == ["greeting Ada"]


def test_a_step_can_be_replaced() -> None:
    assert Local().replace(greet, lambda name: name.upper()).run(hello, "Ada").output == "ADA"
