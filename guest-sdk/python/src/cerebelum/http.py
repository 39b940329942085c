"""HTTP for steps: a small client whose requests the engine sends, each with an idempotency key.

    reply = await http.post(
        "https://api.example.com/v2/droplets",
        json=order,
        headers={"Authorization": f"Bearer {http.secret('TOKEN')}"},
        timeout=5_000,
    )
    droplet = reply.raise_for_status().json()

A request is a durable suspension point: its answer is recorded, and a rerun receives the recorded one. Redirects are
not followed. Workflows cannot send requests; steps can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from json import detect_encoding
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from . import _values
from ._host import HttpRequest, HttpResponse, current
from .durations import Duration, optional_ms
from .errors import Failure, SerializationError

# Names and values; a name may come more than once.
Pairs: TypeAlias = "Mapping[str, Any] | Iterable[tuple[str, Any]]"
# Statuses below 500 that another attempt may change.
PASSING = (408, 425, 429)
EXCERPT_LENGTH = 2_000
# The most that crosses the boundary of a sandbox at once, with room for everything besides the body.
BODY_BYTES_MAX = (4 << 20) - (64 << 10)


class HttpFailure(Failure):
    """The request got no usable answer: kind `http-connect`, `http-timeout`, `http-protocol`, `http-too-large`.

    `HttpError`, of kind `http-status`, is one as well.
    """


class HttpError(HttpFailure):
    """The server answered with a status of 400 or more."""

    def __init__(self, response: Response) -> None:
        status = response.status
        super().__init__(
            f"the server answered {status} to {response.method} {response.url}",
            kind="http-status",
            details={"status": status, "body": response.text[:EXCERPT_LENGTH], "url": response.url},
            retryable=status >= 500 or status in PASSING,
        )
        self.response = response

    @property
    def status(self) -> int:
        """The status."""
        return self.response.status


class Headers(Mapping[str, str]):
    """Headers by their name, in whatever case; several of one name are joined by commas."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = list(pairs)
        self._named: dict[str, list[str]] = {}
        for name, value in self.pairs:
            self._named.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._named[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._named

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"

    def get_list(self, name: str) -> list[str]:
        """All values of a name, `set-cookie` say."""
        return list(self._named.get(name.lower(), ()))


class Response:
    """A complete response, of any status."""

    def __init__(self, method: str, url: str, answer: HttpResponse) -> None:
        self.method = method
        # Where it came from, without user, query and fragment, which may hold secrets.
        self.url = url
        self.status = answer.status
        self.headers = Headers(answer.headers)
        self.content = answer.body

    def __repr__(self) -> str:
        return f"<Response {self.status} of {self.method} {self.url}>"

    @property
    def status_code(self) -> int:
        """The status, by the name that other clients give it."""
        return self.status

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def text(self) -> str:
        """The body in the character set that the server names, UTF-8 by default; invalid bytes become `�`."""
        named = re.search(r"charset=[\"']?([^\s;\"']+)", self.headers.get("content-type", ""), re.IGNORECASE)
        try:
            return self.content.decode(named[1] if named else "utf-8", "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")

    def json(self, hint: Any = Any) -> Any:
        """The body as JSON, as a type hint wants it: `reply.json(list[Droplet])`.

        # Raises
        SerializationError when it is not JSON or does not fit.
        """
        what = f"the answer to {self.method} {self.url} (status {self.status})"
        try:
            text = self.content.decode(detect_encoding(self.content)).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise SerializationError(f"{what} is not JSON: {error}") from None
        return _values.parse(text, hint, what)

    def raise_for_status(self) -> Response:
        """The response itself, unless its status is 400 or more.

        # Raises
        HttpError; 408, 425, 429 and 5xx are worth another attempt, other statuses are permanent.
        """
        if not self.ok:
            raise HttpError(self)
        return self


def secret(name: str) -> str:
    """A placeholder for a secret in a URL or header. The engine fills it in after recording the request.

    The secret must be named in `component(secrets=[…])`.
    """
    return f"{{{{secret:{name}}}}}"


async def request(
    method: str,
    url: str,
    *,
    headers: Pairs | None = None,
    params: Pairs | None = None,
    json: Any = None,
    content: str | bytes | None = None,
    data: Pairs | None = None,
    timeout: Duration | None = None,
) -> Response:
    """Sends a request and waits for the whole answer.

    Args:
        method: any method.
        url: http or https.
        headers: a value of `{{secret:NAME}}`, see `secret`, is filled in on the way out.
        params: added to the URL, escaped; a list stands for several, None for none.
        json: the body, as JSON.
        content: the body, as it is.
        data: the body, as a form.
        timeout: milliseconds or timedelta for the whole exchange; 60 s, and at most that.

    # Raises
    HttpFailure when there is no answer, Failure when the engine refuses to send it.
    """
    named = list(_pairs(headers))
    body, kind = _body(json, content, data)
    if kind is not None and not any(name.lower() == "content-type" for name, _ in named):
        named.append(("content-type", kind))
    asked = HttpRequest(
        method=method.upper(),
        url=with_params(url, params),
        headers=named,
        body=body,
        timeout_ms=optional_ms(timeout, "a request's timeout"),
    )
    if len(body) > BODY_BYTES_MAX:
        message = f"a request's body has at most {BODY_BYTES_MAX} bytes, this one has {len(body)}"
        raise HttpFailure(message, kind="http-too-large", retryable=False)
    try:
        answer = await current().fetch(asked)
    except Failure as failure:
        raise _typed(failure) from None
    return Response(asked.method, bare(url), answer)


async def get(url: str, **options: Any) -> Response:
    """A GET request; see `request`."""
    return await request("GET", url, **options)


async def head(url: str, **options: Any) -> Response:
    """A HEAD request; see `request`."""
    return await request("HEAD", url, **options)


async def post(url: str, **options: Any) -> Response:
    """A POST request; see `request`."""
    return await request("POST", url, **options)


async def put(url: str, **options: Any) -> Response:
    """A PUT request; see `request`."""
    return await request("PUT", url, **options)


async def patch(url: str, **options: Any) -> Response:
    """A PATCH request; see `request`."""
    return await request("PATCH", url, **options)


async def delete(url: str, **options: Any) -> Response:
    """A DELETE request; see `request`."""
    return await request("DELETE", url, **options)


def _typed(failure: Failure) -> Failure:
    if not failure.kind.startswith("http-"):
        return failure
    return HttpFailure(failure.message, kind=failure.kind, details=failure.details, retryable=failure.retryable)


def _body(json: Any, content: str | bytes | None, data: Pairs | None) -> tuple[bytes, str | None]:
    """The body and its content type."""
    if sum(given is not None for given in (json, content, data)) > 1:
        raise TypeError("a request has one body: json, content or data")
    if json is not None:
        return _values.dump(json, "a request's json").encode(), "application/json"
    if data is not None:
        return urlencode(list(_pairs(data))).encode(), "application/x-www-form-urlencoded"
    if isinstance(content, str):
        return content.encode(), "text/plain; charset=utf-8"
    return bytes(content or b""), None


def _pairs(given: Pairs | None) -> Iterator[tuple[str, str]]:
    """Names and values as text, in their order; None is left out, and each item of a list becomes a pair of its own."""
    if given is None:
        return
    for name, value in given.items() if isinstance(given, Mapping) else given:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if one is not None:
                yield str(name), str(one).lower() if isinstance(one, bool) else str(one)


SECRET = re.compile(r"(\{\{secret:[^}]*\}\})")


def _escaped(text: str) -> str:
    """Percent-encoded, except for the placeholders of secrets."""
    parts = SECRET.split(text)
    return "".join(part if index % 2 else quote(part, safe="") for index, part in enumerate(parts))


def with_params(url: str, params: Pairs | None) -> str:
    """A URL with `name=value` pairs added to its query."""
    added = "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in _pairs(params))
    if not added:
        return url
    rest, mark, fragment = url.partition("#")
    joint = "" if rest.endswith(("?", "&")) else "&" if "?" in rest else "?"
    return f"{rest}{joint}{added}{mark}{fragment}"


def bare(url: str) -> str:
    """A URL without user, query and fragment, as it may stand in a message."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
