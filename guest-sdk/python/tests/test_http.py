"""The HTTP client, and how requests leave in local mode."""

import asyncio
import contextvars
import json as jsons
import socket
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from servers import Sender, serving

from cerebelum import Failure, _fetch, _host, http
from cerebelum._host import HttpRequest, HttpResponse
from cerebelum.errors import SerializationError, failure_of
from cerebelum.registry import Registry, registry


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(autouse=True)
def every_host_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "hosts", ["*"])
    monkeypatch.setattr(registry, "secrets", [])


def run(asked: Coroutine[Any, Any, Any], host: Any = None) -> Any:
    """What a coroutine yields in a scope of a host."""

    async def scope() -> Any:
        sender: Any = host or Sender()
        _host.enter(sender)
        return await asked

    return contextvars.copy_context().run(asyncio.run, scope())


def failure(asked: Coroutine[Any, Any, Any], host: Any = None) -> Failure:
    with pytest.raises(Failure) as caught:
        run(asked, host)
    return caught.value


@dataclass
class Order:
    size: str


def test_a_request_arrives_as_it_was_said(url: str) -> None:
    asked = http.post(
        f"{url}/echo?z=1#end",
        params={"a b": "c&d/é", "on": True, "none": None, "many": [1, 2]},
        headers=[("X-A", "1"), ("X-B", "ü")],
        json={"order": Order("s")},
        timeout=timedelta(seconds=5),
    )
    sender = Sender()
    echo = run(asked, sender).json()
    assert sender.sent[0].timeout_ms == 5_000
    assert echo["method"] == "POST"
    assert echo["path"] == "/echo?z=1&a%20b=c%26d%2F%C3%A9&on=true&many=1&many=2"
    assert echo["body"] == '{"order":{"size":"s"}}'
    headers = echo["headers"]
    assert (headers["x-a"], headers["x-b"]) == ("1", "ü")
    assert (headers["content-type"], headers["idempotency-key"]) == ("application/json", "key-7")


@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({"content": "größe"}, "größe", "text/plain; charset=utf-8"),
        ({"content": b"raw"}, "raw", None),
        ({"data": {"a b": "c&d", "n": [1, 2]}}, "a+b=c%26d&n=1&n=2", "application/x-www-form-urlencoded"),
        ({"json": [], "headers": {"Content-Type": "text/x"}}, "[]", "text/x"),
        ({}, "", None),
    ],
    ids=str,
)
def test_bodies_say_what_they_are(url: str, options: dict[str, Any], body: str, kind: str | None) -> None:
    echo = run(http.put(f"{url}/echo", **options)).json()
    assert (echo["method"], echo["body"], echo["headers"].get("content-type")) == ("PUT", body, kind)


def test_a_request_has_one_body() -> None:
    with pytest.raises(TypeError, match="a request has one body: json, content or data"):
        run(http.post("http://x", json={}, data={}))


@pytest.mark.parametrize("method", ["get", "head", "post", "put", "patch", "delete"])
def test_every_method_has_a_function(url: str, method: str) -> None:
    reply = run(getattr(http, method)(f"{url}/echo"))
    assert reply.method == method.upper()
    assert reply.ok
    assert method == "head" or reply.json()["method"] == method.upper()


def test_a_key_of_the_author_is_kept(url: str) -> None:
    echo = run(http.post(f"{url}/echo", headers={"idempotency-KEY": "mine"})).json()
    assert echo["headers"]["idempotency-key"] == "mine"


def answer(content: bytes, kind: str = "", status: int = 200) -> http.Response:
    return http.Response("GET", "http://x/y", HttpResponse(status, [("Content-Type", kind)], content))


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        ("größe".encode(), "text/plain", "größe"),
        ("größe".encode("latin-1"), "text/html; charset=ISO-8859-1", "größe"),
        ("größe".encode("utf-16"), 'text/html; Charset="utf-16"', "größe"),
        (b"gr\xf6\xdfe", "text/plain", "gr\ufffd\ufffde"),
        ("größe".encode(), "text/plain; charset=no-such-thing", "größe"),
    ],
)
def test_text_is_read_in_its_character_set(content: bytes, kind: str, text: str) -> None:
    assert answer(content, kind).text == text


def test_json_is_read_by_hint_and_its_mistakes_are_told() -> None:
    assert answer(b'{"size":"s","x":1}').json(Order) == Order("s")
    assert answer('\ufeff{"a":1}'.encode()).json() == {"a": 1}
    assert answer('"é"'.encode("utf-16")).json() == "é"
    for content, told in [
        (b'{"size":3}', r"\.size: expected a string, got 3"),
        (b"<html>", "is not JSON"),
        (b"", "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b"[" * 100_000, "nested deeper than 128 levels"),
    ]:
        with pytest.raises(SerializationError, match=rf"the answer to GET http://x/y \(status 200\).*{told}"):
            answer(content).json(Order)


def test_headers_are_found_in_whatever_case(url: str) -> None:
    headers = run(http.get(f"{url}/redirect")).headers
    assert headers["LOCATION"] == "/echo"
    assert headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert headers["set-cookie"] == "a=1, b=2"
    assert "location" in headers
    assert headers.get("nothing") is None
    assert headers.get_list("nothing") == []


def test_redirects_are_answers(url: str) -> None:
    reply = run(http.get(f"{url}/redirect"))
    assert (reply.status, reply.status_code, reply.ok) == (302, 302, True)
    assert reply.raise_for_status() is reply


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (404, False), (408, True), (425, True), (429, True), (500, True), (503, True)],
)
def test_only_passing_statuses_are_worth_another_attempt(url: str, status: int, retryable: bool) -> None:
    reply = run(http.get(f"{url}/status/{status}?token=hidden"))
    assert not reply.ok
    with pytest.raises(http.HttpError) as caught:
        reply.raise_for_status()
    error = caught.value
    assert (error.kind, error.retryable, error.status) == ("http-status", retryable, status)
    assert error.details == {"status": status, "body": "because", "url": f"{url}/status/{status}"}
    assert str(error) == f"the server answered {status} to GET {url}/status/{status}"
    assert failure_of(error) is error


def test_what_stands_in_messages_holds_neither_user_nor_query() -> None:
    assert http.bare("https://user:pw@example.com:1/a/b?token=1#x") == "https://example.com:1/a/b"
    assert http.bare("http://[") == "an invalid URL"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_trouble_has_a_kind_and_is_worth_another_attempt(url: str) -> None:
    for asked, kind, told in [
        (http.get(f"http://127.0.0.1:{closed_port()}/"), "http-connect", "the request failed: Connection refused"),
        (http.get("http://no-such-host.invalid/"), "http-connect", "the request failed: "),
        (http.get(f"{url}/slow", timeout=50), "http-timeout", "no complete answer within 50 ms"),
        (http.get(f"{url}/drip", timeout=100), "http-timeout", "no complete answer within 100 ms"),
        (http.get(f"{url}/short"), "http-protocol", "the request failed: IncompleteRead"),
        (http.get(f"{url}/nothing"), "http-protocol", "the request failed: Remote end closed connection"),
        (http.get(url.replace("http", "https")), "http-connect", "the request failed: "),
    ]:
        error = failure(asked)
        assert isinstance(error, http.HttpFailure)
        assert (error.kind, error.retryable) == (kind, True)
        assert error.message.startswith(told)


def test_an_answer_has_a_largest_size(url: str) -> None:
    assert len(run(http.get(f"{url}/large/0")).content) == 8 << 20
    error = failure(http.get(f"{url}/large/1"))
    assert (error.kind, error.retryable) == ("http-too-large", False)


@pytest.mark.parametrize(
    ("request_", "kind", "told"),
    [
        (("GET", "ftp://x/", []), "not-granted", "`ftp` is neither http nor https"),
        (("GET", "x.com", []), "invalid-argument", "`x.com` is not a valid URL: relative URL without a base"),
        (("GET", "http://x:99999/", []), "invalid-argument", "`http://x:99999/` is not a valid URL: "),
        (("GET", "http:///a", []), "not-granted", "the URL names no host"),
        (("G T", "http://x/", []), "invalid-argument", "`G T` is not a valid HTTP method"),
        (("GET", "http://x/", [("a b", "c")]), "invalid-argument", "`a b` is not a valid HTTP header name"),
        (("GET", "http://x/", [("a", "b\r\nc: d")]), "invalid-argument", "the value of header `a` is not allowed in"),
    ],
    ids=str,
)
def test_what_is_no_request_does_not_leave(request_: tuple[str, str, list[Any]], kind: str, told: str) -> None:
    error = failure(_fetch.fetch(HttpRequest(*request_), "k"))
    assert (error.kind, error.retryable) == (kind, False)
    assert error.message.startswith(told)


def test_a_program_that_declares_nothing_reaches_no_host(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "hosts", Registry().hosts)
    error = failure(http.get(f"{url}/echo"))
    assert (error.kind, error.retryable) == ("not-granted", False)


def test_only_declared_hosts_are_reached(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for hosts in (["*"], ["127.0.0.1"], [url.removeprefix("http://")]):
        monkeypatch.setattr(registry, "hosts", hosts)
        assert run(http.get(f"{url}/echo")).ok
    monkeypatch.setattr(registry, "hosts", ["example.com", "127.0.0.1:1"])
    error = failure(http.get(f"{url}/echo"))
    assert error.kind == "not-granted"
    assert 'component(hosts=["127.0.0.1"])' in error.message


def test_secrets_are_filled_in_on_the_way_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "secrets", ["TOKEN", "OTHER"])
    monkeypatch.setenv("CEREBELUM_SECRET_TOKEN", "s3cret")
    monkeypatch.delenv("CEREBELUM_SECRET_OTHER", raising=False)
    token = http.secret("TOKEN")
    assert token == "{{secret:TOKEN}}"
    sender = Sender()
    reply = run(
        http.get(f"{url}/echo", params={"k": f"x{token}"}, headers={"Authorization": f"Bearer {token}"}), sender
    )
    echo = reply.json()
    assert (echo["path"], echo["headers"]["authorization"]) == ("/echo?k=xs3cret", "Bearer s3cret")
    assert "s3cret" not in repr(sender.sent) + repr(reply)
    for name, told in [("OTHER", "set CEREBELUM_SECRET_OTHER"), ("STRANGE", 'component(secrets=["STRANGE"])')]:
        error = failure(http.get(f"{url}/echo", headers={"a": http.secret(name)}))
        assert (error.kind, error.retryable) == ("not-granted", False)
        assert told in error.message


def test_a_user_in_the_url_is_told_as_a_header(url: str) -> None:
    echo = run(http.get(f"{url.replace('//', '//me:p%40ss@')}/echo")).json()
    assert echo["headers"]["authorization"] == "Basic bWU6cEBzcw=="


def test_what_a_url_may_not_hold_is_escaped_on_the_way_out(url: str) -> None:
    assert run(http.get(f"{url}/a b/é?q=c d%20")).json()["path"] == "/a%20b/%C3%A9?q=c%20d%20"


def test_a_cancelled_request_lets_its_thread_go(url: str) -> None:
    async def scope() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(http.get(f"{url}/slow"), 0.05)

    began = time.monotonic()
    run(scope())
    # Without that, the loop would wait for its thread at its end: for 30 s here.
    assert time.monotonic() - began < 10


class Refusing:
    async def fetch(self, request: HttpRequest) -> HttpResponse:
        raise Failure("a workflow cannot send requests", kind="not-granted", retryable=False)


def test_a_refusal_of_the_engine_stays_what_it_is() -> None:
    error = failure(http.get("http://x"), Refusing())
    assert type(error) is Failure
    assert error.kind == "not-granted"


def test_requests_at_once_are_independent(url: str) -> None:
    async def scope() -> list[http.Response]:
        return await asyncio.gather(*(http.post(f"{url}/echo", json=n) for n in range(1, 9)))

    assert [jsons.loads(reply.json()["body"]) for reply in run(scope())] == list(range(1, 9))
