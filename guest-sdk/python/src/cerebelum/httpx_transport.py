"""httpx on top of the engine: `httpx.AsyncClient` inside steps.

In a component a plain `httpx.AsyncClient()` sends its requests through the engine by itself. Elsewhere it uses sockets,
as ever; `httpx.AsyncClient(transport=Transport())` sends them as `cerebelum.http` does, with an idempotency key and
with secrets filled in, in a component and in local mode alike.

The exceptions of httpx are `HttpFailure`s here, so that an uncaught one is recorded with its own kind.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn

import httpx

from ._host import HttpRequest, current
from .errors import ContextError, Failure
from .http import HttpFailure

# The engine sets them itself; HTTP/2 does not even allow some.
OWN_HEADERS = frozenset({b"connection", b"content-length", b"host", b"keep-alive", b"transfer-encoding"})


class Trouble(httpx.TransportError, HttpFailure):
    """A failed request as both libraries know it."""

    def __init__(self, failure: Failure, request: httpx.Request) -> None:
        HttpFailure.__init__(
            self, failure.message, kind=failure.kind, details=failure.details, retryable=failure.retryable
        )
        self.request = request


class ConnectTrouble(Trouble, httpx.ConnectError):
    """No connection could be made."""


class TimeoutTrouble(Trouble, httpx.ReadTimeout):
    """The exchange took too long."""


class ProtocolTrouble(Trouble, httpx.RemoteProtocolError):
    """The exchange broke off or was malformed."""


class ReadTrouble(Trouble, httpx.ReadError):
    """The answer is larger than the limit."""


TROUBLES: dict[str, type[Trouble]] = {
    "http-connect": ConnectTrouble,
    "http-timeout": TimeoutTrouble,
    "http-protocol": ProtocolTrouble,
    "http-too-large": ReadTrouble,
}


class Transport(httpx.AsyncBaseTransport):
    """Sends each request as a durable call."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and waits for the whole answer.

        # Raises
        Exceptions of httpx; Failure when the engine refuses to send the request.
        """
        return await send(request)


async def send(request: httpx.Request) -> httpx.Response:
    """The durable call that stands for a request of httpx."""
    asked = HttpRequest(
        method=request.method,
        url=_with_secrets(str(request.url)),
        headers=[(text(n), text(v)) for n, v in request.headers.raw if n.lower() not in OWN_HEADERS],
        body=await request.aread(),
        timeout_ms=timeout_ms(request.extensions.get("timeout") or {}),
    )
    host = request.headers.get("host")
    if host is not None and host != request.url.netloc.decode("ascii", "replace"):
        asked.headers.append(("host", host))
    try:
        answer = await current().fetch(asked)
    except Failure as failure:
        trouble = TROUBLES.get(failure.kind)
        if trouble is None:
            raise
        raise trouble(failure, request) from None
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    # As a stream, so that httpx unpacks it, or hands it out as it came, as its user asks.
    return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(answer.body), request=request)


def timeout_ms(timeouts: dict[str, Any]) -> int | None:
    """The time for the whole exchange, which is what the engine counts: that of the longest phase.

    httpx counts connecting, writing and each read alone; `timeout=1` is one second here, not the sum of them.
    """
    parts = [timeouts.get(name) for name in ("connect", "write", "read")]
    if any(part is None for part in parts):
        return None
    return max(1, round(max(float(part) for part in parts if part is not None) * 1_000))


def text(value: bytes) -> str:
    """The text of a header."""
    return value.decode("utf-8", "replace")


def _with_secrets(url: str) -> str:
    """Undoes the escaping of braces by httpx, which would hide a secret from the engine."""
    return url.replace("%7B%7Bsecret:", "{{secret:").replace("%7D%7D", "}}") if "%7B%7Bsecret:" in url else url


class _AsyncHTTPTransport(Transport):
    """The replacement of httpx's own transports in a component."""

    def __init__(self, *_: Any, **options: Any) -> None:
        for name in ("proxy", "uds", "cert"):
            if options.get(name) is not None:
                raise ContextError(f"httpx's `{name}` has no meaning in a component: the engine sends the requests")

    async def __aenter__(self) -> _AsyncHTTPTransport:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        return None


class _HTTPTransport(httpx.BaseTransport):
    """The same for `httpx.Client`, which cannot wait in a component."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def handle_request(self, request: httpx.Request) -> NoReturn:
        """Raises an error that names the alternative."""
        raise ContextError(
            f"httpx.Client cannot send {request.method} {request.url.host} in a component, where nothing can block: "
            "use `async with httpx.AsyncClient() as client: await client.get(…)`"
        )


def install() -> None:
    """Makes httpx's own clients use the engine; for components, which have no sockets."""
    import httpx._client
    import httpx._transports.default

    replaced = {"AsyncHTTPTransport": _AsyncHTTPTransport, "HTTPTransport": _HTTPTransport}
    for module in (httpx, httpx._client, httpx._transports.default):
        vars(module).update(replaced)
