"""Types that a workflow gives to what it waits for: signals, polls of check steps, approvals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

import pytest

from cerebelum import (
    ApprovalTimeout,
    Approved,
    Context,
    Failure,
    SignalTimeout,
    approval,
    not_yet,
    poll,
    ready,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum.compat import wait_for_approval
from cerebelum.testing import Asked, Local, approve, hours


class Currency(Enum):
    EUR = "eur"


@dataclass
class Payment:
    cents: int
    currency: Currency = Currency.EUR


class Terms(TypedDict):
    percent: int


@step
async def look(context: Context, rounds: int) -> Any:
    return ready({"cents": rounds}) if context.now().second >= rounds else not_yet()


def test_what_was_waited_for_has_the_type_that_was_asked_for(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> list[bool]:
        paid = await wait_for_signal("paid", returns=Payment)
        maybe = await wait_for_signal("paid", "1h", returns=Payment | None)
        plain = await wait_for_signal("paid")
        found = await poll(look, 3, interval="1s", returns=Payment)
        bare = await poll(look, 3, interval="1s")
        terms = await approval("Terms?", schema=Terms, timeout="1h")
        payment = await wait_for_approval("pay", schema=Payment, title="Pay?")
        untyped = await approval("Plain?", schema={"type": "object"})
        return [
            paid == Payment(1),
            maybe is None,
            plain == {"cents": 2},
            found == Payment(3),
            bare == {"cents": 3},
            terms == Approved({"percent": 25}, "ada"),
            payment.data == Payment(4),
            untyped.data == {"a": 1},
        ]

    local = Local().signal("paid", {"cents": 1}).signal("paid").signal("paid", {"cents": 2})
    local.on_approval("Terms?", approve({"percent": 25}).by("ada")).on_approval("Pay?", approve(Payment(4)))
    local.on_approval("Plain?", approve({"a": 1}))
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.output == [True] * 8


def test_the_schema_of_a_question_follows_from_its_type() -> None:
    asked: list[Any] = []

    def answer(question: Asked) -> Any:
        asked.append(question.schema)
        return {"percent": 1}

    @step
    @approval(schema=Terms)
    async def decorated(context: Context) -> str:
        return "went on"

    @workflow
    async def flow(context: Context) -> Any:
        await approval("A", schema=Terms, approvers=["role:operator"])
        await approval("B", schema=Any)
        await approval("C", schema=dict[str, int])
        return await decorated(context)

    assert Local().on_approval(None, answer).run(flow).output == "went on"
    terms, anything, table, decorators = asked
    assert (terms["properties"], terms["required"]) == ({"percent": {"type": "integer"}}, ["percent"])
    assert terms["x-cerebelum-approvers"] == ["role:operator"]
    assert anything is None
    assert table["additionalProperties"] == {"type": "integer"}
    assert decorators["properties"] == terms["properties"]


async def failure_of(call: Coroutine[Any, Any, Any]) -> list[Any]:
    with pytest.raises(Failure) as caught:
        await call
    return [caught.value.kind, caught.value.message, caught.value.retryable]


def test_what_does_not_fit_is_a_permanent_failure_with_the_place() -> None:
    @step(retry=1)
    @approval(schema=Terms)
    async def decorated(context: Context) -> None: ...

    @workflow
    async def flow(context: Context) -> Any:
        return [
            await failure_of(wait_for_signal("paid", returns=Payment)),
            await failure_of(poll(look, 0, returns=Terms)),
            await failure_of(approval("Terms?", schema=Terms)),
            await failure_of(decorated(context)),
        ]

    local = Local().signal("paid", {"cents": "all"}).on_approval(None, approve({"percent": "x"}))
    assert local.run(flow).output == [
        ["schema-mismatch", "signal 'paid': .cents: expected an integer, got \"all\"", False],
        ["schema-mismatch", "the value of step 'look': .percent is missing", False],
        ["schema-mismatch", "the answer to 'Terms?': .percent: expected an integer, got \"x\"", False],
        ["schema-mismatch", "the answer to 'decorated': .percent: expected an integer, got \"x\"", False],
    ]


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: wait_for_signal("paid", returns="Payment"),
        "wait_for_signal: write returns=Payment, the type itself, and not its name 'Payment'",
    ),
    (
        lambda: wait_for_signal("paid", returns=Payment(5)),
        "wait_for_signal: write returns=Payment, the type itself, and not a value of it",
    ),
    (
        lambda: poll(look, 1, returns=5),
        "poll: returns is a type, a dataclass for example: JSON cannot become 5: "
        "use a dataclass, a TypedDict, an Enum or plain types",
    ),
    (
        lambda: approval("Terms?", schema=list[Context | complex]),
        "approval: schema is a type, a dataclass for example; at []: JSON cannot become complex: "
        "use a dataclass, a TypedDict, an Enum or plain types",
    ),
    (lambda: approval(schema=[1]), "approval: schema is a type, a dataclass for example: JSON cannot become [1]"),
    (
        lambda: poll(lambda: 1, returns=int),  # type: ignore[call-overload]
        "returns is for polls of a check step: a function that polls in place returns what it returns",
    ),
]


@pytest.mark.parametrize(("call", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_a_mistake_says_what_to_write(call: Callable[[], Any], said: str) -> None:
    async def main() -> None:
        with pytest.raises(TypeError) as caught:
            await call()
        assert str(caught.value).startswith(said)
        assert getattr(caught.value, "_is_permanent", False)

    asyncio.run(main())


def test_timeouts_of_people_and_signals_are_timeout_errors(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        with pytest.raises(TimeoutError) as signal:
            await wait_for_signal("paid", timeout="1h")
        with pytest.raises(TimeoutError) as answer:
            await approval("Go?", timeout="1h")
        both = [signal.value, answer.value]
        assert isinstance(both[0], SignalTimeout)
        assert isinstance(both[1], ApprovalTimeout)
        return [[late.kind, isinstance(late, Failure), late.retryable] for late in both]  # type: ignore[attr-defined]

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.elapsed == hours(2)
    assert run.output == [
        ["timeout", True, False],
        ["approval-timeout", True, False],
    ]
    failed = Local().run(late)
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.message) == ("timeout", "the signal did not come in time")


@workflow
async def late(context: Context) -> None:
    await wait_for_signal("paid", timeout="1h")
