"""A small HTTP server for tests, and a host that sends requests with the standard library."""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cerebelum import _fetch
from cerebelum._host import HttpRequest, HttpResponse


class Answers(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"
    released: threading.Event

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        name, _, argument = self.path.partition("?")[0].strip("/").partition("/")
        status, headers, out = getattr(self, f"on_{name}", self.on_echo)(argument, body)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for pair in headers:
            self.send_header(*pair)
        if not any(name == "content-length" for name, _ in headers):
            self.send_header("content-length", str(len(out)))
        self.end_headers()
        with contextlib.suppress(OSError):
            if self.command != "HEAD":
                self.wfile.write(out)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

    def on_echo(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        told = {"method": self.command, "path": self.path, "body": body.decode("utf-8", "replace")}
        headers = {name.lower(): value.encode("latin-1").decode() for name, value in self.headers.items()}
        return 200, [("content-type", "application/json")], json.dumps({**told, "headers": headers}).encode()

    def on_status(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return int(argument), [], b"because"

    def on_redirect(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 302, [("location", "/echo"), ("set-cookie", "a=1"), ("Set-Cookie", "b=2")], b""

    def on_gzip(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 200, [("content-encoding", "gzip")], gzip.compress("größe".encode())

    def on_latin(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 200, [("content-type", "text/plain; charset=ISO-8859-1")], "größe".encode("latin-1")

    def on_large(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 200, [], b"x" * ((8 << 20) + int(argument))

    def on_slow(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        self.released.wait(30)
        return 200, [], b""

    def on_drip(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """A byte every few milliseconds, without an end."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not self.released.wait(0.01):
                self.wfile.write(b"x")
        return 0, [], b""

    def on_short(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 200, [("content-length", "100")], b"only this"

    def on_nothing(self, argument: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 0, [], b""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The server's URL, while it runs."""
    handler = type("Handler", (Answers,), {"released": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        handler.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


class Sender:
    """The part of a host that requests need; it remembers them."""

    def __init__(self) -> None:
        self.sent: list[HttpRequest] = []

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        self.sent.append(request)
        return await _fetch.fetch(request, "key-7")
