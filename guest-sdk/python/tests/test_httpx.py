"""httpx on top of a host: the transport, and what a component makes of plain clients."""

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Sender, serving

from cerebelum import Failure, _host
from cerebelum._host import HttpRequest, HttpResponse
from cerebelum.errors import failure_of
from cerebelum.http import HttpFailure
from cerebelum.httpx_transport import TROUBLES, Transport
from cerebelum.registry import registry


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(autouse=True)
def every_host_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "hosts", ["*"])


def run(asked: Coroutine[Any, Any, Any], host: Any) -> Any:
    async def scope() -> Any:
        _host.enter(host)
        return await asked

    return contextvars.copy_context().run(asyncio.run, scope())


def test_httpx_works_on_the_transport_as_on_its_own(url: str) -> None:
    async def scope() -> None:
        async with httpx.AsyncClient(transport=Transport(), base_url=url) as client:
            echo = (await client.post("/echo", json={"x": 1}, params={"a": "b c"})).json()
            assert (echo["method"], echo["path"], echo["body"]) == ("POST", "/echo?a=b+c", '{"x":1}')
            assert echo["headers"]["idempotency-key"] == "key-7"
            assert echo["headers"]["host"] == url.removeprefix("http://")
            followed = await client.get("/redirect", follow_redirects=True)
            assert (followed.status_code, len(followed.history), client.cookies["b"]) == (200, 1, "2")
            assert (await client.get("/gzip")).text == "größe"
            assert (await client.get("/latin")).text == "größe"
            async with client.stream("GET", "/gzip") as streamed:
                packed = b"".join([part async for part in streamed.aiter_raw()])
            assert packed[:2] == b"\x1f\x8b"
            form = await client.post("/echo", data={"k": "v"}, files={"f": ("a.txt", b"hello")})
            assert "hello" in form.json()["body"]
            with pytest.raises(httpx.HTTPStatusError):
                (await client.get("/status/404")).raise_for_status()
            assert (await client.get("/echo", headers={"host": "other"})).json()["headers"]["host"] == "other"

    run(scope(), Sender())


class Failing:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        raise Failure("it failed", kind=self.kind, details={"a": 1}, retryable=self.kind != "http-too-large")


@pytest.mark.parametrize(
    ("kind", "known_as"),
    [
        ("http-connect", httpx.ConnectError),
        ("http-timeout", httpx.ReadTimeout),
        ("http-protocol", httpx.RemoteProtocolError),
        ("http-too-large", httpx.ReadError),
    ],
)
def test_failures_are_exceptions_of_httpx_and_keep_their_kind(kind: str, known_as: type[httpx.RequestError]) -> None:
    async def scope() -> None:
        with pytest.raises(known_as, match="it failed") as caught:
            await httpx.AsyncClient(transport=Transport()).get("http://x/y")
        assert str(caught.value.request.url) == "http://x/y"
        recorded = failure_of(caught.value)
        assert isinstance(recorded, HttpFailure)
        assert (recorded.kind, recorded.details, recorded.retryable) == (kind, {"a": 1}, kind != "http-too-large")

    run(scope(), Failing(kind))
    assert kind in TROUBLES


def test_a_refusal_of_the_engine_is_no_trouble_of_the_network() -> None:
    async def scope() -> None:
        with pytest.raises(Failure) as caught:
            await httpx.AsyncClient(transport=Transport()).get("http://x/y")
        assert not isinstance(caught.value, httpx.HTTPError)

    run(scope(), Failing("not-granted"))


class Recording:
    def __init__(self) -> None:
        self.sent: list[HttpRequest] = []

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        self.sent.append(request)
        return HttpResponse(200)


@pytest.mark.parametrize(
    ("timeout", "limit_ms"),
    [
        (5, 5_000),
        (0.1, 100),
        (None, None),
        (httpx.Timeout(1, read=2, pool=9), 2_000),
        (httpx.Timeout(1, read=None), None),
    ],
    ids=str,
)
def test_the_whole_exchange_gets_the_time_of_its_longest_phase(timeout: Any, limit_ms: int | None) -> None:
    host = Recording()
    run(httpx.AsyncClient(transport=Transport(), timeout=timeout).get("http://x"), host)
    assert host.sent[0].timeout_ms == limit_ms


def test_secrets_stay_where_the_engine_finds_them() -> None:
    host = Recording()
    client = httpx.AsyncClient(transport=Transport())
    run(client.get("http://x/{{secret:A}}?k={{secret:B}}", headers={"a": "{{secret:C}}"}), host)
    assert host.sent[0].url == "http://x/{{secret:A}}?k={{secret:B}}"
    assert ("a", "{{secret:C}}") in host.sent[0].headers
    names = {name.lower() for name, _ in host.sent[0].headers}
    assert not names & {"host", "connection", "content-length"}


# As in a component: no ssl, and the author imports httpx after the package, makes clients at module level as well.
AUTHOR = """
import asyncio, sys
class NoSsl:
    def find_spec(self, name, path=None, target=None):
        if name in ("ssl", "_ssl"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoSsl())
from cerebelum import _import_hooks, _host
from cerebelum._host import HttpResponse
_import_hooks.install()
import httpx
from httpx import AsyncHTTPTransport
early = httpx.AsyncClient(headers={"a": "b"})
assert "httpcore" not in sys.modules
import ssl
try:
    raise ssl.SSLError("x")
except OSError:
    pass
class Host:
    async def fetch(self, request):
        return HttpResponse(200, [], request.url.encode())
_host.occupy(Host())
async def main():
    print((await early.get("http://early/")).text)
    async with httpx.AsyncClient(verify=False, http2=False) as client:
        print((await client.get("http://late/")).text)
    async with httpx.AsyncClient(transport=AsyncHTTPTransport(retries=3)) as client:
        print((await client.get("http://own/")).text)
    for refused in (lambda: httpx.get("http://sync/"), lambda: httpx.AsyncClient(proxy="http://p")):
        try:
            refused()
        except Exception as error:
            print(type(error).__name__, error)
asyncio.run(main())
"""


def test_in_a_component_plain_clients_send_through_the_engine(tmp_path: Path) -> None:
    (tmp_path / "author.py").write_text(AUTHOR)
    ran = subprocess.run([sys.executable, str(tmp_path / "author.py")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "http://early/",
        "http://late/",
        "http://own/",
        "ContextError httpx.Client cannot send GET sync in a component, where nothing can block: "
        "use `async with httpx.AsyncClient() as client: await client.get(…)`",
        "ContextError httpx's `proxy` has no meaning in a component: the engine sends the requests",
    ]
