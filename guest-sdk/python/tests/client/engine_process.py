"""A real engine as a process of its own, and the world outside that its steps talk to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[4]
READY = "cerebelum is ready on "


def binary() -> Path:
    """The engine's program; its absence fails a test, it never skips one."""
    path = Path(os.environ.get("CEREBELUM_BIN") or REPOSITORY / "target" / "release" / "cerebelum")
    assert path.is_file(), f"no engine at {path}: run `make build`, or set CEREBELUM_BIN"
    return path


def component(name: str) -> Path:
    """An example as a component."""
    folder = Path(os.environ.get("CEREBELUM_COMPONENTS") or REPOSITORY / "target" / "components")
    path = folder / f"{name}.wasm"
    assert path.is_file(), f"no component at {path}: run `make examples`, or set CEREBELUM_COMPONENTS"
    return path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EngineProcess:
    """An engine on a port and a folder of its own, which it keeps when it is killed and started again."""

    def __init__(self, folder: Path, allow_http: str | None = None) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._more = ["--allow-http", allow_http] if allow_http else []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it is ready."""
        command = [str(binary()), "serve", "--listen", self.address, "--data", str(self._folder / "data"), *self._more]
        env = {name: value for name, value in os.environ.items() if not name.startswith("CEREBELUM_")}
        with (self._folder / "engine.log").open("a") as log:
            self._process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = first_line(self._process.stdout)
        assert line.startswith(READY), f"the engine did not start: {(self._folder / 'engine.log').read_text()}"

    def kill(self) -> None:
        """Ends it as a power failure would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def stop(self) -> None:
        """Asks it to stop, and waits until it has."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self.kill()


def first_line(stream: IO[str]) -> str:
    """The first line that an engine prints; empty when it ends without one."""
    return stream.readline()


class World:
    """Answers every request with 201, and those to `/switch/…` with 503 until it is `on`; counts them by path."""

    def __init__(self) -> None:
        self.on = False
        self.asked: dict[str, int] = {}
        world = self

        class Answers(BaseHTTPRequestHandler):
            """One request."""

            def do_POST(self) -> None:
                """Counts and answers."""
                self.rfile.read(int(self.headers.get("content-length") or 0))
                world.asked[self.path] = world.asked.get(self.path, 0) + 1
                is_shut = self.path.startswith("/switch/") and not world.on
                self.send_response(503 if is_shut else 201)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
