"""The engine's address and the caller's token: from arguments, the environment or defaults."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from .errors import InvalidRequest

DEFAULT_PORT = 9090
DEFAULT_URL = f"localhost:{DEFAULT_PORT}"


@dataclass(frozen=True)
class Address:
    """An engine's address."""

    host: str
    """A name, or an IP address without brackets."""
    port: int
    is_tls: bool = False
    ca: bytes | None = None
    """Authorities in PEM that vouch for the engine's certificate, in place of the usual ones."""
    client_cert: bytes | None = None
    """The client's own certificate and its private key in PEM, for an engine that asks for one."""

    @property
    def target(self) -> str:
        """As gRPC wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """For people."""
        return f"{'https' if self.is_tls else 'http'}://{self.target}"

    @property
    def is_this_machine(self) -> bool:
        """Whether it is certainly a loopback address."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def address_of(core_url: str | None) -> Address:
    """The engine's address: `HOST:PORT` or a URL, else `CEREBELUM_URL`, `CEREBELUM_CORE_URL`, the default.

    With `https://`, the file in `CEREBELUM_CA` says who vouches for the engine's certificate, and that in
    `CEREBELUM_CLIENT_CERT` has the client's own one.

    # Raises
    InvalidRequest when it has another form, or when a file cannot be read.
    """
    given = core_url or _variable("CEREBELUM_URL") or _variable("CEREBELUM_CORE_URL") or DEFAULT_URL
    text = given.strip()
    split = urlsplit(text if "://" in text else f"http://{text}")
    port = _port(split)
    if split.scheme not in ("http", "https") or not split.hostname or port is None or _has_more(split):
        raise InvalidRequest(f"{given}: write HOST:PORT, http://HOST:PORT or https://HOST:PORT, such as {DEFAULT_URL}")
    is_tls = split.scheme == "https"
    if not is_tls:
        return Address(split.hostname, port)
    ca, client_cert = _file_in("CEREBELUM_CA"), _file_in("CEREBELUM_CLIENT_CERT")
    return Address(split.hostname, port, is_tls, ca, client_cert)


def _file_in(variable: str) -> bytes | None:
    file = _variable(variable)
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{variable}: cannot read {file}: {error.strerror}") from None


def _port(split: SplitResult) -> int | None:
    try:
        return split.port or DEFAULT_PORT
    except ValueError:
        return None


def _has_more(split: SplitResult) -> bool:
    is_odd = any(not char.isprintable() or char.isspace() for char in split.netloc)
    return is_odd or "@" in split.netloc or split.path not in ("", "/") or bool(split.query or split.fragment)


def metadata_of(token: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata of every call: the given token, or the one in `CEREBELUM_TOKEN`.

    # Raises
    InvalidRequest when the token is not valid in a header; the message does not repeat it.
    """
    bearer = token or _variable("CEREBELUM_TOKEN")
    if not bearer:
        return ()
    if not all("!" <= char <= "~" for char in bearer):
        raise InvalidRequest("the token has to consist of visible ASCII characters")
    return (("authorization", f"Bearer {bearer}"),)


def person() -> str:
    """The user who decides, by their name on this machine."""
    return _variable("USER") or _variable("LOGNAME") or "unknown"


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None
