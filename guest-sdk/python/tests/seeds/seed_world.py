"""The outside world that the snippets take for granted, played: clouds, servers, databases, mail, and further steps."""

from __future__ import annotations

import datetime
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cerebelum
from cerebelum import Context, step

IP = "203.0.113.7"
# Whatever takes its time is there at the look of this number.
READY_AT = 4
# Whatever fails at first does so this many times.
FAILURES = 2


class SSHConnectionError(Exception):
    """A server does not let us in yet."""


class Later:
    """A value that is there after some looks."""

    def __init__(self, before: Any, after: Any) -> None:
        self.looks = 0
        self._before, self._after = before, after

    def look(self, *_: Any) -> Any:
        """What is seen now."""
        self.looks += 1
        return self._after if self.looks >= READY_AT else self._before


class Flaky:
    """A call that fails at first."""

    def __init__(self, answer: Any, error: Exception) -> None:
        self.calls = 0
        self._answer, self._error = answer, error

    def call(self, *_: Any, **__: Any) -> Any:
        """Answers, or fails."""
        self.calls += 1
        if self.calls <= FAILURES:
            raise self._error
        return self._answer


class Droplet:
    """A virtual machine of the cloud that gets its address after some looks."""

    def __init__(self, *_: Any) -> None:
        self.id = 7
        self.created = 0
        self.ip_address: str | None = None
        self._address = Later(None, IP)

    def create(self) -> None:
        """Orders it."""
        self.created += 1

    def load(self) -> None:
        """Looks at it again."""
        self.ip_address = self._address.look()


class World:
    """All of it, with a record of what was asked of it."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.done: list[str] = []
        # Seconds for which a snippet blocked its whole process.
        self.blocked_s = 0.0
        self.droplet = Droplet()
        self.seen = Later(
            SimpleNamespace(ip_address=None, status="new"), SimpleNamespace(ip_address=IP, status="active")
        )
        self.ssh = Flaky({"ip": IP}, SSHConnectionError("connection refused"))
        self.build = Later({"status": "running"}, {"status": "success"})

    def names(self) -> dict[str, Any]:
        """Everything by the names that the snippets use."""
        return {**self._imports(), **self._services(), **self._steps()}

    def _imports(self) -> dict[str, Any]:
        """What a program imports at its top and the documents do not repeat before every snippet."""
        own = {name: getattr(cerebelum, name) for name in ("Context", "ProgressReporter", "Worker")}
        own.update({name: getattr(cerebelum, name) for name in ("approval", "poll", "retry", "sleep")})
        own.update(step=step, workflow=cerebelum.workflow, DistributedExecutor=cerebelum.DistributedExecutor)
        blocking = SimpleNamespace(sleep=self._block)
        hints = {name: getattr(typing, name) for name in ("Any", "Callable", "Optional", "Union")}
        return {**own, **hints, "timedelta": datetime.timedelta, "time": blocking}

    def _services(self) -> dict[str, Any]:
        """What stands outside of the program."""
        clients = SimpleNamespace(droplets=SimpleNamespace(create=lambda *_: self.droplet, get=self.seen.look))
        return {
            "digitalocean": SimpleNamespace(Droplet=Droplet),
            "digital_ocean_client": clients,
            "droplet": self.droplet,
            "manager": SimpleNamespace(get_droplet=self.seen.look),
            "get_droplet": self.seen.look,
            "check_droplet": self.seen.look,
            "ssh_connect": self.ssh.call,
            "connect_server": self.ssh.call,
            "paramiko": SimpleNamespace(SSHClient=self._ssh_client, AutoAddPolicy=object),
            "SSHConnectionError": SSHConnectionError,
            "db": SimpleNamespace(get_user=self._get_user),
            "email": SimpleNamespace(send=self._send),
            "send_email": lambda *mail: self.mails.append(mail),
            "check_cert_status": Later({"status": "pending"}, {"status": "issued"}).look,
            "test_db_connection": Later({}, {"connectable": True}).look,
            "get_build_status": self.build.look,
            **{name: self._does(name) for name in ("provision_infrastructure", "deploy_app", "run_migrations")},
        }

    def _steps(self) -> dict[str, Any]:
        """Steps that the snippets mention and do not show."""
        names = (
            *("configure_server", "create_resource", "wait_for_resource", "configure_resource"),
            *("create_and_wait_resource", "deploy", "verify", "step1", "step2"),
        )
        return {name: self._step(name) for name in names}

    def _step(self, name: str) -> Any:
        async def act(context: Context) -> str:
            self.done.append(name)
            return f"{name} is done"

        return step(name=name)(act)

    def _does(self, name: str) -> Callable[[], Any]:
        async def act() -> None:
            self.done.append(name)

        return act

    def _block(self, seconds: float) -> None:
        self.blocked_s += seconds

    def _ssh_client(self) -> Any:
        ignore = lambda *_: None  # noqa: E731
        return SimpleNamespace(connect=self.ssh.call, set_missing_host_key_policy=ignore, close=ignore)

    async def _get_user(self, id: int) -> dict[str, Any]:
        return {"id": id, "email": "ada@example.com"}

    async def _send(self, address: str) -> None:
        self.mails.append(address)
