"""Sends a request from this process with the standard library, as the engine does for a component.

The rules are the engine's: no redirects, no proxies, 60 s in all, 5 s to connect, 8 MiB of answer; only declared hosts
and secrets; failures of the same kinds.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ._host import HttpRequest, HttpResponse
from .errors import Failure
from .registry import registry

TOTAL_MS = 60_000
CONNECT_S = 5.0
RESPONSE_BYTES_MAX = 8 << 20
# What a path or query may hold as it is; everything else is escaped on the way out.
URL_SAFE = "%/:=&?~#+!$,;'@()*[]"
SECRET = re.compile(r"\{\{secret:(.*?)\}\}")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


async def fetch(request: HttpRequest, idempotency_key: str) -> HttpResponse:
    """Sends a request and yields the whole answer, of whatever status.

    Args:
        request: what to send; `{{secret:NAME}}` in its URL and headers becomes the value of the environment's
            `CEREBELUM_SECRET_NAME`.
        idempotency_key: the `Idempotency-Key` header, unless there is one.

    # Raises
    Failure of kind `http-…`, `not-granted` or `invalid-argument`.
    """
    exchange = Exchange(prepared(request, idempotency_key), limit_ms(request))
    try:
        return await asyncio.to_thread(exchange.run)
    except asyncio.CancelledError:
        # The caller has gone: release the thread, or the loop could not close.
        exchange.abort()
        raise


def limit_ms(request: HttpRequest) -> int:
    """How long the whole exchange may take, in milliseconds."""
    return TOTAL_MS if request.timeout_ms is None else min(request.timeout_ms, TOTAL_MS)


@dataclass(frozen=True)
class Prepared:
    """A request, ready to be sent."""

    method: str
    url: SplitResult
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self) -> str:
        """Path and query, escaped."""
        path = quote(self.url.path or "/", safe=URL_SAFE)
        return f"{path}?{quote(self.url.query, safe=URL_SAFE)}" if self.url.query else path


def prepared(request: HttpRequest, idempotency_key: str) -> Prepared:
    """Checks a request, and fills in its secrets and default headers.

    # Raises
    Failure of kind `not-granted` or `invalid-argument`; the message contains no secret.
    """
    url = _url(with_secrets(request.url), request.url)
    if not TOKEN.fullmatch(request.method):
        raise invalid(f"`{request.method}` is not a valid HTTP method")
    headers = [(_header_name(name), _header_value(name, value)) for name, value in request.headers]
    names = {name.lower() for name, _ in headers}
    if url.username is not None and "authorization" not in names:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers.append(("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
    if "accept" not in names:
        headers.append(("Accept", "*/*"))
    if "idempotency-key" not in names:
        headers.append(("Idempotency-Key", idempotency_key))
    return Prepared(request.method, url, headers, request.body)


def _url(url: str, shown: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise invalid(f"`{shown}` is not a valid URL: {error}") from None
    if not parts.scheme:
        raise invalid(f"`{shown}` is not a valid URL: relative URL without a base")
    if parts.scheme not in ("http", "https"):
        raise refused(f"`{parts.scheme}` is neither http nor https")
    if not parts.hostname:
        raise refused("the URL names no host")
    _permit(parts.hostname, port or (443 if parts.scheme == "https" else 80))
    return parts


def _permit(host: str, port: int) -> None:
    """Refuses hosts that the program does not declare, as the engine would."""
    if "*" in registry.hosts:
        return
    # The list writes IPv6 addresses in brackets.
    names = {host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"}
    if not names.intersection(entry.lower() for entry in registry.hosts):
        raise refused(
            f"the component does not ask for host {host}:{port}: declare it in the component's list of hosts, "
            f'component(hosts=["{host}"])'
        )


def with_secrets(text: str) -> str:
    """Text with its secrets filled in.

    # Raises
    Failure of kind `not-granted`.
    """

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name not in registry.secrets:
            hint = f'declare it in the component\'s list of secrets, component(secrets=["{name}"])'
            raise refused(f"the component does not ask for secret `{name}`: {hint}")
        value = os.environ.get(f"CEREBELUM_SECRET_{name}")
        if value is None:
            raise refused(f"there is no secret `{name}`: set CEREBELUM_SECRET_{name}")
        return value

    return SECRET.sub(fill, text)


def _header_name(name: str) -> str:
    if not TOKEN.fullmatch(name):
        raise invalid(f"`{name}` is not a valid HTTP header name")
    return name


def _header_value(name: str, value: str) -> str:
    filled = with_secrets(value)
    if CONTROL.search(filled):
        raise invalid(f"the value of header `{name}` is not allowed in HTTP")
    # Headers are bytes; http.client takes them as Latin-1.
    return filled.encode("utf-8", "replace").decode("latin-1")


def refused(message: str) -> Failure:
    """A request that the engine would refuse to send."""
    return Failure(message, kind="not-granted", retryable=False)


def invalid(message: str) -> Failure:
    """A request that is malformed."""
    return Failure(message, kind="invalid-argument", retryable=False)


class Exchange:
    """One request on its way, in a thread; another thread may end it."""

    def __init__(self, request: Prepared, limit_ms: int) -> None:
        self._request = request
        self._limit_ms = limit_ms
        self._connection: http.client.HTTPConnection | None = None
        self._is_aborted = False

    def run(self) -> HttpResponse:
        """Sends the request and reads the answer.

        # Raises
        Failure of kind `http-…`.
        """
        began = time.monotonic()
        late = Failure(f"no complete answer within {self._limit_ms} ms", kind="http-timeout")
        # A socket's own timeout misses a server that sends a byte now and then.
        alarm = threading.Timer(self._limit_ms / 1_000, self.abort)
        alarm.daemon = True
        alarm.start()
        try:
            self._connection = connection = self._connect()
            return self._exchange(connection)
        except Failure:
            raise
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            if self._is_aborted or (time.monotonic() - began) * 1_000 >= self._limit_ms:
                raise late from None
            raise Failure(f"the request failed: {_cause(error)}", kind="http-protocol") from None
        finally:
            alarm.cancel()
            if self._connection is not None:
                self._connection.close()

    def abort(self) -> None:
        """Ends it from another thread; a blocked read fails."""
        self._is_aborted = True
        connected = None if self._connection is None else self._connection.sock
        if connected is not None:
            with contextlib.suppress(OSError):
                # Below TLS, whose closing handshake would wait for the peer.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def _connect(self) -> http.client.HTTPConnection:
        url = self._request.url
        seconds = max(0.001, min(CONNECT_S, self._limit_ms / 1_000))
        host, port = url.hostname or "", url.port
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            import ssl

            connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
        try:
            connection.connect()
        except TimeoutError:
            what = f"within {self._limit_ms} ms" if self._limit_ms <= CONNECT_S * 1_000 else f"within {CONNECT_S:g} s"
            raise Failure(f"the request failed: no connection {what}", kind="http-timeout") from None
        except (OSError, UnicodeError) as error:
            raise Failure(f"the request failed: {_cause(error)}", kind="http-connect") from None
        # From here on the alarm enforces the limit; it may have fired before there was a connection to end.
        connection.sock.settimeout(None)
        if self._is_aborted:
            connection.close()
            raise OSError("aborted")
        return connection

    def _exchange(self, connection: http.client.HTTPConnection) -> HttpResponse:
        request = self._request
        names = {name.lower() for name, _ in request.headers}
        connection.putrequest(request.method, request.target, skip_host="host" in names, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if "content-length" not in names and (request.body or request.method in ("POST", "PUT", "PATCH")):
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        body = answer.read(RESPONSE_BYTES_MAX + 1)
        if len(body) > RESPONSE_BYTES_MAX:
            message = f"the answer is larger than {RESPONSE_BYTES_MAX} bytes"
            raise Failure(message, kind="http-too-large", retryable=False)
        if self._is_aborted:
            raise OSError("aborted")
        if answer.length and request.method != "HEAD":
            raise http.client.IncompleteRead(body, answer.length)
        return HttpResponse(answer.status, list(_headers(answer)), body)


def _headers(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    for name, value in answer.getheaders():
        yield name.lower(), value.encode("latin-1").decode("utf-8", "replace")


def _cause(error: BaseException) -> str:
    """The cause of an error without its URL, which may contain a secret."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
