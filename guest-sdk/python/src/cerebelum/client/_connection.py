"""The connection to one engine: the only place that knows gRPC and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from .._proto.calls import ClientStream, Message, ServerStream, Unary
from ._address import Address
from .errors import EngineError, EngineUnreachable, InvalidRequest, NotFound, Refused

ANSWER_BYTES_MAX = 256 << 20
"""The largest answer that is accepted: an execution with many steps and large outputs."""
CONNECT_MS_MAX = 5_000
"""How long an engine may take to accept a connection."""
RECONNECT_MS = (100, 2_000)
"""The delays before a lost connection is tried again, first and longest."""
KEEPALIVE_MS = 20_000
"""The silence after which an open connection is probed."""

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Metadata = Sequence[tuple[str, str]]

_ENGINE_IN_TROUBLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
)


class Connection:
    """Calls to one engine. It connects with the first call and, after a loss, again with the next one."""

    def __init__(self, address: Address, metadata: Metadata, timeout_seconds: float, agent: str) -> None:
        """`agent` names this program to the engine; `timeout_seconds` bounds calls that name no time of their own."""
        self._address = address
        self._metadata = tuple(metadata)
        self._timeout_seconds = timeout_seconds
        self._options = _options(address, agent)
        self._channel: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._has_answered = False

    @property
    def has_answered(self) -> bool:
        """Whether the engine has ever answered. If not, its address may well be wrong."""
        return self._has_answered

    async def ask(self, call: Unary[Request, Answer], request: Request, timeout_seconds: float | None = None) -> Answer:
        """Sends one message and returns one."""
        timeout = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        ask = self._open().unary_unary(call.path, _serialized, call.answer.FromString)
        return await self._answer(ask(request, timeout=timeout, metadata=self._metadata), timeout)

    async def send(
        self, call: ClientStream[Request, Answer], requests: Iterable[Request], timeout_seconds: float
    ) -> Answer:
        """Sends many messages and returns one."""
        send = self._open().stream_unary(call.path, _serialized, call.answer.FromString)
        sending = send(iter(requests), timeout=timeout_seconds, metadata=self._metadata)
        return await self._answer(sending, timeout_seconds)

    async def follow(self, call: ServerStream[Request, Answer], request: Request) -> AsyncGenerator[Answer, None]:
        """Sends one message and yields any number, however long that takes."""
        follow = self._open().unary_stream(call.path, _serialized, call.answer.FromString)
        following = follow(request, metadata=self._metadata)
        try:
            async for answer in following:
                self._has_answered = True
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self._meaning(error, None) from None
        finally:
            # A reader that stops early ends the stream.
            following.cancel()

    async def close(self) -> None:
        """Ends the connection and all calls under way."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()

    def _open(self) -> Any:
        if self._is_closed:
            raise InvalidRequest("this client is closed")
        # A channel belongs to the event loop that it was made in, and a program may run one loop after another.
        loop = asyncio.get_running_loop()
        if self._channel is None or self._loop is not loop:
            self._channel = _channel(self._address, self._options)
            self._loop = loop
        return self._channel

    async def _answer(self, asking: Awaitable[Answer], timeout_seconds: float) -> Answer:
        try:
            answer = await asking
        except grpc.aio.AioRpcError as error:
            raise self._meaning(error, timeout_seconds) from None
        self._has_answered = True
        return answer

    def _meaning(self, error: Any, timeout_seconds: float | None) -> EngineError:
        code, url = error.code(), self._address.url
        text = "; ".join(line.strip() for line in (error.details() or "").splitlines() if line.strip())
        text = text or code.name.lower().replace("_", " ")
        # Errors of an engine come with headers of its server; errors that gRPC found locally do not.
        is_answer = bool(error.trailing_metadata())
        was_there, self._has_answered = self._has_answered, self._has_answered or is_answer
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return EngineUnreachable(f"no answer from the engine at {url} within {timeout_seconds:g} s")
        if not is_answer and code in (*_ENGINE_IN_TROUBLE, grpc.StatusCode.CANCELLED):
            return EngineUnreachable(_lost(url, text.rsplit(": ", 1)[-1], was_there))
        if code in _ENGINE_IN_TROUBLE:
            return EngineUnreachable(text)
        if code is grpc.StatusCode.NOT_FOUND:
            return NotFound(text)
        return InvalidRequest(text) if code is grpc.StatusCode.INVALID_ARGUMENT else Refused(text)


def _lost(url: str, why: str, was_there: bool) -> str:
    if was_there:
        return f"lost the engine at {url} ({why}); is it still running?"
    return (
        f"no engine at {url} ({why}); start one with `cerebelum serve`, or name another with core_url or CEREBELUM_URL"
    )


def _channel(address: Address, options: list[tuple[str, int | str]]) -> Any:
    if not address.is_tls:
        return grpc.aio.insecure_channel(address.target, options=options)
    own = address.client_cert
    credentials = grpc.ssl_channel_credentials(address.ca, private_key=own, certificate_chain=own)
    return grpc.aio.secure_channel(address.target, credentials, options=options)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _options(address: Address, agent: str) -> list[tuple[str, int | str]]:
    soon, late = RECONNECT_MS
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
        ("grpc.primary_user_agent", agent),
        ("grpc.initial_reconnect_backoff_ms", soon),
        ("grpc.max_reconnect_backoff_ms", late),
        # Despite its name, this is how long connecting may take.
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.http2.max_pings_without_data", 0),
        # Otherwise another client's failures would delay this one.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if address.is_this_machine:
        # Proxies cannot reach this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options
