"""What travels besides the message, and what each answer of an engine becomes; against an engine of paper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from engine_process import free_port

from cerebelum._proto import engine_pb2 as pb
from cerebelum.client import (
    DistributedExecutor,
    EngineError,
    EngineUnreachable,
    ExecutionClient,
    ExecutionState,
    InvalidRequest,
    NotFound,
    Refused,
)

pytestmark = pytest.mark.asyncio


class PaperEngine:
    """Answers every call alike, and keeps what came along."""

    def __init__(self) -> None:
        self.address = ""
        self.metadata: dict[str, str] = {}
        self.status = pb.ExecutionStatus(summary=pb.Summary(execution_id="x", status="completed"))
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.silent = False

    async def answer(self, request: Any, context: Any) -> Any:
        """One call."""
        self.metadata = dict(context.invocation_metadata())
        if self.silent:
            await asyncio.Event().wait()
        if self.refusal:
            await context.abort(*self.refusal)
        return self.status

    def service(self, call: Any) -> Any:
        """How gRPC finds a call: each is answered."""
        return grpc.unary_unary_rpc_method_handler(
            self.answer, response_serializer=lambda message: message.SerializeToString()
        )


@pytest_asyncio.fixture
async def paper() -> AsyncIterator[PaperEngine]:
    """An engine of paper."""
    paper = PaperEngine()

    class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            return paper.service(handler_call_details)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    paper.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield paper
    await server.stop(None)


async def test_a_token_goes_along_with_every_call(paper: PaperEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ExecutionClient(paper.address, token="key-1") as client:
        await client.get_execution_status("x")
        assert paper.metadata["authorization"] == "Bearer key-1"
    monkeypatch.setenv("CEREBELUM_TOKEN", "key-2")
    async with DistributedExecutor(paper.address, worker_id="night-shift") as executor:
        await executor.client.cancel("x")
        assert paper.metadata["authorization"] == "Bearer key-2"
        assert paper.metadata["user-agent"].startswith("cerebelum-python/night-shift ")
    async with DistributedExecutor(paper.address, token="key-3") as executor:
        await executor.client.cancel("x")
        assert paper.metadata["authorization"] == "Bearer key-3"
    monkeypatch.setenv("CEREBELUM_TOKEN", "")
    async with ExecutionClient(paper.address) as client:
        await client.get_execution_status("x")
        assert "authorization" not in paper.metadata


async def test_a_token_that_cannot_travel_is_not_repeated_in_the_error() -> None:
    for token in ("se cret", "secret\n", "sécret"):
        with pytest.raises(InvalidRequest, match="visible ASCII") as caught:
            ExecutionClient("localhost:1", token=token)
        assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "becomes"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.PERMISSION_DENIED, Refused),
        (grpc.StatusCode.UNAUTHENTICATED, Refused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Refused),
        (grpc.StatusCode.ALREADY_EXISTS, Refused),
        (grpc.StatusCode.ABORTED, Refused),
        (grpc.StatusCode.UNIMPLEMENTED, Refused),
        (grpc.StatusCode.UNAVAILABLE, EngineUnreachable),
        (grpc.StatusCode.INTERNAL, EngineUnreachable),
        (grpc.StatusCode.UNKNOWN, EngineUnreachable),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_every_refusal_is_one_exception_with_one_line(
    paper: PaperEngine, code: grpc.StatusCode, becomes: type[EngineError]
) -> None:
    paper.refusal = (code, "one thing\n  and another")
    async with ExecutionClient(paper.address) as client:
        with pytest.raises(EngineError) as caught:
            await client.get_execution_status("x")
    assert type(caught.value) is becomes
    assert "one thing; and another" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_silent_engine_is_unreachable_after_the_time(paper: PaperEngine) -> None:
    paper.silent = True
    async with ExecutionClient(paper.address, timeout=0.2) as client:
        with pytest.raises(EngineUnreachable, match=r"no answer from the engine at http://127.* within 0.2 s"):
            await client.get_execution_status("x")


async def test_an_engine_that_is_not_there_is_told_at_once_with_a_way_out() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    async with ExecutionClient(nowhere) as client, DistributedExecutor(nowhere) as executor:
        for call in (
            lambda: client.get_execution_status("x"),
            lambda: client.start("hello"),
            lambda: client.wait("x"),
            lambda: anext(client.watch("x")),
            lambda: anext(client.logs("x", follow=True)),
            lambda: executor.execute("hello"),
        ):
            with pytest.raises(EngineUnreachable) as caught:
                await asyncio.wait_for(call(), 10)
            line = str(caught.value)
            assert f"no engine at http://{nowhere} (Connection refused" in line
            assert "cerebelum serve" in line
            assert "\n" not in line


async def test_words_of_a_newer_engine_are_not_an_error(paper: PaperEngine) -> None:
    paper.status = pb.ExecutionStatus(summary=pb.Summary(execution_id="x", status="daydreaming"))
    async with ExecutionClient(paper.address) as client:
        status = await client.get_execution_status("x")
    assert status.state is ExecutionState.UNSPECIFIED
    assert not status.has_ended


async def test_a_closed_client_says_so(paper: PaperEngine) -> None:
    client = ExecutionClient(paper.address)
    await client.get_execution_status("x")
    await client.close()
    await client.close()
    with pytest.raises(InvalidRequest, match="closed"):
        await client.get_execution_status("x")
