"""Where a client looks for its engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cerebelum.client import InvalidRequest
from cerebelum.client._address import address_of


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("localhost:9090", "localhost:9090"),
        ("http://localhost:9090", "localhost:9090"),
        ("http://localhost:9090/", "localhost:9090"),
        ("HTTP://Localhost:80", "localhost:80"),
        (" engine.example:1234 ", "engine.example:1234"),
        ("engine", "engine:9090"),
        ("10.0.0.7", "10.0.0.7:9090"),
        ("[::1]:9191", "[::1]:9191"),
        ("http://[::1]", "[::1]:9090"),
    ],
)
def test_an_address_is_a_host_and_a_port(given: str, target: str) -> None:
    assert address_of(given).target == target


@pytest.mark.parametrize(
    "given",
    [
        "httpx://localhost:9090",
        "ftp://localhost",
        "dns:///localhost:9090",
        "http://",
        ":9090",
        "localhost:port",
        "localhost:70000",
        "localhost:9090/v1",
        "http://user:key@localhost",
        "two words:1",
        "http://localhost?x",
    ],
)
def test_what_is_no_address_is_told_with_an_example(given: str) -> None:
    with pytest.raises(InvalidRequest, match=r"http://"):
        address_of(given)


def test_the_argument_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(None).target == "localhost:9090"
    monkeypatch.setenv("CEREBELUM_CORE_URL", "core:1")
    assert address_of(None).target == "core:1"
    monkeypatch.setenv("CEREBELUM_URL", "http://engine:2")
    assert address_of(None).target == "engine:2"
    assert address_of("mine:3").target == "mine:3"
    monkeypatch.setenv("CEREBELUM_URL", "")
    assert address_of("").target == "core:1"


def test_no_proxy_is_asked_for_this_machine() -> None:
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]"):
        assert address_of(host).is_this_machine, host
    for host in ("engine", "10.0.0.7", "localhost.example"):
        assert not address_of(host).is_this_machine, host


def test_https_takes_the_files_of_the_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CEREBELUM_CA", raising=False)
    monkeypatch.delenv("CEREBELUM_CLIENT_CERT", raising=False)
    assert address_of("https://engine:1").url == "https://engine:1"
    assert address_of("https://engine:1").ca is None
    (tmp_path / "ca.pem").write_bytes(b"pem")
    monkeypatch.setenv("CEREBELUM_CA", str(tmp_path / "ca.pem"))
    assert address_of("https://engine:1").ca == b"pem"
    assert address_of("engine:1").ca is None
    assert address_of("https://engine:1").client_cert is None
    (tmp_path / "mine.pem").write_bytes(b"mine")
    monkeypatch.setenv("CEREBELUM_CLIENT_CERT", str(tmp_path / "mine.pem"))
    assert address_of("https://engine:1").client_cert == b"mine"
    monkeypatch.setenv("CEREBELUM_CA", str(tmp_path / "absent.pem"))
    with pytest.raises(InvalidRequest, match="cannot read"):
        address_of("https://engine:1")
