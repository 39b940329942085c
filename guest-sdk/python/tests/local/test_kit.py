"""The test kit: stand-ins, scripted people and servers, what a run tells."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from cerebelum import (
    Approved,
    Context,
    ExecutionError,
    Failure,
    StepError,
    approval,
    call_step,
    http,
    run_workflow,
    sleep,
    start_workflow,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum.testing import Asked, Local, StepCall, approve, days, hours, reject, reply, seconds, silence


@dataclass
class Mail:
    to: str
    lines: int = 1


@step
async def send_mail(context: Context, mail: Mail, copies: int = 1) -> Any:
    raise AssertionError("no test sends mail")


@step(retry={"max_attempts": 3, "delay": 1_000})
async def charge(context: Context, cents: int) -> dict[str, int]:
    return {"charged": cents}


@workflow
async def sell(context: Context, cents: int) -> Any:
    await approval("Sell?", data={"cents": cents}, timeout=days(30))
    receipt = await charge(context, cents)
    return [receipt["charged"], await send_mail(context, Mail("ada", 3), copies=2)]


def sold(instead: Any) -> Any:
    return Local().on_approval("Sell?", approve()).replace(send_mail, instead).run(sell, 500)


def test_a_month_takes_no_time() -> None:
    run = Local().on_approval("Sell?", approve().after(days(29))).replace(send_mail, "sent").run(sell, 500)
    assert run.output == [500, "sent"]
    assert (run.status, run.failure, run.runs) == ("completed", None, 1)
    assert run.elapsed == days(29)
    assert run.result.execution_id == "local"
    assert run.result.started_at == datetime(2000, 1, 1, tzinfo=timezone.utc)
    assert run.result.completed_at == datetime(2000, 1, 30, tzinfo=timezone.utc)


def test_a_stand_in_is_given_what_it_names() -> None:
    assert sold(lambda mail: f"to {mail.to}, {mail.lines} lines").output[1] == "to ada, 3 lines"
    assert sold(lambda m, c: [type(m).__name__, c]).output[1] == ["Mail", 2]
    assert sold(lambda context, mail: [context.step_name, context.attempt, mail.to]).output[1] == [
        "send_mail",
        1,
        "ada",
    ]
    assert sold(lambda **given: sorted(given)).output[1] == ["copies", "mail"]
    assert sold(lambda: "nothing").output[1] == "nothing"
    assert sold(Mail("bob")).output[1] == {"to": "bob", "lines": 1}


def test_mocks_stand_in_as_well() -> None:
    mock = AsyncMock(return_value="sent")
    assert sold(mock).output[1] == "sent"
    mock.assert_awaited_once_with(Mail("ada", 3), 2)
    failing = Mock(side_effect=[ConnectionError("down"), "sent"])
    run = sold(failing)
    assert (run.output[1], failing.call_count, run.elapsed) == ("sent", 2, seconds(1))


def test_a_stand_in_opens_envelopes_and_its_output_is_json() -> None:
    assert sold(lambda: {"ok": 5}).output[1] == 5
    refused = sold(lambda: {"error": "bounced"})
    assert (refused.failure.kind, refused.failure.message) == ("failure", "bounced")
    assert refused.steps[-1].attempts == 1
    wrong = sold(lambda: {1, object()})
    assert (wrong.failure.kind, wrong.steps[-1].attempts) == ("invalid-output", 1)


def test_steps_of_other_components_and_of_no_component_can_be_replaced() -> None:
    @workflow
    async def flow(context: Context) -> Any:
        return [
            await call_step("mailer/send", {"to": "ada", "at": 5}),
            await call_step("unknown"),
            await run_workflow("x/y", 1),
        ]

    def send(to: str, at: int) -> list[Any]:
        return [to, at]

    run = (
        Local().replace("mailer/send", send).replace("unknown", None).replace("x/y", lambda value: value + 1).run(flow)
    )
    assert run.output == [["ada", 5], None, 2]


def test_attempts_can_be_made_to_fail() -> None:
    local = Local().on_approval("Sell?", approve()).replace(send_mail, "sent").fail(charge, 2, ConnectionError("down"))
    for _ in range(2):  # What a test said is there for every run anew.
        run = local.run(sell, 500)
        assert run.output == [500, "sent"]
        assert run.elapsed == seconds(1 + 2)
        assert [(step.name, step.attempts) for step in run.steps] == [("charge", 3), ("send_mail", 1)]
    always = local.fail(charge, None, "closed").run(sell, 500)
    assert always.failure is not None
    assert (always.status, always.failure.kind, always.failure.message) == ("failed", "failure", "closed")
    for_good = local.fail("charge", None, Failure("no card", kind="declined", retryable=False)).run(sell, 500)
    assert (for_good.failure.kind, for_good.steps[0].attempts) == ("declined", 1)  # type: ignore[union-attr]


def test_the_output_of_a_run_that_failed_is_the_reason() -> None:
    run = Local().on_approval("Sell?", reject("sold out").by("bob")).run(sell, 500)
    with pytest.raises(ExecutionError, match="rejected by bob: sold out") as caught:
        _ = run.output
    assert caught.value.result == run.result
    assert "rejected" in repr(run)
    failed = Local().on_approval("Sell?", approve()).run(sell, 500)
    with pytest.raises(ExecutionError, match="at step 'send_mail': no test sends mail"):
        _ = failed.output


def test_jitter_follows_the_seed() -> None:
    def elapsed(seed: int | None) -> timedelta:
        local = Local(seed=seed).on_approval("Sell?", approve()).replace(send_mail, "sent").fail(charge, 2)
        return local.run(sell, 500).elapsed

    assert elapsed(None) == seconds(3)
    assert elapsed(1) == elapsed(1) != elapsed(2)
    assert seconds(2.4) <= elapsed(1) <= seconds(3.6)


def test_questions_are_answered_by_title_kind_or_function() -> None:
    asked: list[Asked] = []

    @workflow
    async def flow(context: Context, title: str) -> Any:
        given = await approval(title, kind="spend", data={"cents": 5}, timeout=hours(1))
        return [given.data, given.by]

    def decide(question: Asked) -> Any:
        asked.append(question)
        return Approved("seen", "eve") if question.data["cents"] < 10 else False

    async def decide_later(question: Asked) -> Any:
        await sleep(60_000)
        return approve("later")

    local = Local().on_approval("A?", approve(1)).on_approval(None, approve(2).by("kind"), kind="spend")
    local.on_approval("B?", decide).on_approval("C?", silence()).on_approval("D?", decide_later)
    local.on_approval("A?", approve(3), kind="other")
    assert local.run(flow, "A?").output == [2, "kind"]
    assert local.run(flow, "B?").output == ["seen", "eve"]
    assert local.run(flow, "C?").failure.kind == "approval-timeout"  # type: ignore[union-attr]
    later = local.run(flow, "D?")
    assert (later.output, later.elapsed) == (["later", "test"], timedelta(minutes=1))
    assert [(question.title, question.kind, question.timeout_ms) for question in asked] == [("B?", "spend", 3_600_000)]


def test_signals_come_when_they_are_sent(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        await sleep(days(1))
        early = await wait_for_signal("paid")
        try:
            await wait_for_signal("paid", timeout=hours(1))
        except Failure as failure:
            kind = failure.kind
        both = await asyncio.gather(wait_for_signal("paid"), wait_for_signal("paid"))
        return [early, kind, both, context.now().day]

    local = Local().signal("paid", 1).signal("paid", 2, after=days(2)).signal("paid", 3, after=days(3))
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.output == [1, "timeout", [2, 3], 4]


def test_a_server_answers_steps() -> None:
    requests: list[Any] = []

    @step(retry={"max_attempts": 2, "delay": 1_000})
    async def order(context: Context, size: int) -> Any:
        answer = await http.post("https://api.example.com/orders", json={"size": size})
        return [answer.status, answer.json()]

    @workflow
    async def flow(context: Context) -> Any:
        return await order(context, 3)

    def server(request: Any) -> Any:
        requests.append((request.method, request.url, request.body, dict(request.headers)["idempotency-key"]))
        if len(requests) == 1:
            raise ConnectionResetError("gone")
        return reply(201, {"id": 7})

    run = Local().on_http(server).run(flow)
    assert (run.output, run.elapsed) == ([201, {"id": 7}], seconds(1))
    assert requests[0] == requests[1]
    assert requests[0][:2] == ("POST", "https://api.example.com/orders")
    assert len(requests[0][3]) == 32
    unanswered = Local().run(flow).failure
    assert unanswered is not None
    assert (unanswered.kind, "see Local.on_http" in unanswered.message) == ("http-connect", True)


def test_a_run_tells_what_happened() -> None:
    @step
    async def copy(context: Context, name: str) -> None:
        context.log(f"copying {name}", level="debug")
        await sleep(hours(2))
        if name == "b":
            raise Failure("no space", retryable=False)

    @workflow
    async def flow(context: Context) -> None:
        context.set_attribute("stage", "copying")
        await copy(context, "a")
        context.set_attribute("copied", 1)
        try:
            await copy(context, "b")
        except StepError as error:
            context.log(str(error), level="warn")

    run = Local(start=datetime(2024, 2, 29, 12)).run(flow)
    noon = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)
    assert run.steps[0] == StepCall("copy", "a", 1, None, None, noon, noon + hours(2), "local")
    assert run.calls(copy) == run.calls("copy") == ["a", "b"]
    assert run.steps[1].failure is not None
    assert run.steps[1].failure.message == "no space"
    assert run.logs == [
        ("copy", "debug", "copying a"),
        ("copy", "debug", "copying b"),
        ("flow", "warn", "Step 'copy' failed: no space"),
    ]
    assert run.attributes == {"stage": "copying", "copied": 1}


def test_log_levels_are_the_engines_or_those_of_pythons_logging(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        for level in ("debug", "info", "warn", "warning", "error", "critical", "fatal"):
            context.log(level, level)
        await sleep("1s")
        with pytest.raises(Failure) as refused:
            context.log("lost", "severe")
        return [refused.value.kind, refused.value.message, refused.value.retryable]

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.output == ["invalid-argument", "there is no log level 'severe': use debug, info, warn or error", False]
    assert [(line.level, line.message) for line in run.logs] == [
        ("debug", "debug"),
        ("info", "info"),
        ("warn", "warn"),
        ("warn", "warning"),
        ("error", "error"),
        ("error", "critical"),
        ("error", "fatal"),
    ]


def test_children_and_what_was_started_belong_to_the_run() -> None:
    @workflow
    async def child(context: Context, length: int) -> int:
        await sleep(days(length))
        return length

    @workflow
    async def flow(context: Context) -> Any:
        await start_workflow(child, 9, id="detached")
        return await child(context, 2)

    run = Local().run(flow)
    assert (run.output, run.elapsed) == (2, days(2))
    assert {id: other.output for id, other in run.others.items()} == {"detached": 9, "local.2": 2}
    replaced = Local().replace(child, lambda length: -length).run(flow)
    assert (replaced.output, replaced.elapsed) == (-2, timedelta(0))


def test_a_step_can_be_run_alone() -> None:
    run = Local().fail(charge, 1).run_step(charge, 500)
    assert (run.output, run.elapsed) == ({"charged": 500}, seconds(1))
    failed = Local().run_step(send_mail, mail=Mail("ada"))
    assert failed.failure is not None
    assert (failed.failure.type, failed.steps[0].attempts) == ("AssertionError", 3)
    with pytest.raises(TypeError):
        Local().run_step(charge)


def test_a_step_is_not_run_as_a_workflow_nor_a_workflow_as_a_step() -> None:
    with pytest.raises(TypeError, match="'charge' is a step: use run_step"):
        Local().run(charge, 500)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'sell' is a workflow: use run"):
        Local().run_step(sell, 500)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="run takes a workflow, run_step a step, not 'sell'"):
        Local().run("sell")  # type: ignore[arg-type]


def test_clean_up_after_a_cancel_takes_as_long_as_the_workflow_allows(hibernating: bool) -> None:
    @step
    async def undo(context: Context) -> None:
        await sleep(seconds(10))

    async def flow(context: Context, waits: int) -> None:
        try:
            await asyncio.gather(sleep(days(3)), asyncio.sleep(86_400 * 4))
        except asyncio.CancelledError:
            await undo(context)
            await sleep(seconds(waits))
            raise

    def run(waits: int, grace: timedelta | None = timedelta(minutes=1)) -> Any:
        local = Local().cancel(after=days(1))
        defined = workflow(name="flow", cancel_grace=grace)(flow)
        return (local.hibernating() if hibernating else local).run(defined, waits)

    patient = run(86_400, grace=None)
    assert (patient.status, patient.elapsed) == ("cancelled", days(2) + seconds(10))
    assert patient.failure.message != "cancelled, and clean-up took longer than its grace period"
    cleaned = run(20)
    assert (cleaned.status, cleaned.elapsed) == ("cancelled", days(1) + seconds(30))
    assert [(step.name, step.output, step.failure) for step in cleaned.steps] == [("undo", None, None)]
    slow = run(600)
    assert (slow.status, slow.elapsed) == ("cancelled", days(1) + seconds(60))
    assert slow.failure.message == "cancelled, and clean-up took longer than its grace period"


def test_a_cancelled_workflow_may_still_complete() -> None:
    @workflow
    async def flow(context: Context) -> str:
        try:
            await sleep(days(3))
        except asyncio.CancelledError:
            return "went home"
        return "slept"

    run = Local().cancel(after=hours(1)).run(flow)
    assert (run.status, run.output, run.elapsed) == ("completed", "went home", hours(1))


@pytest.mark.asyncio
async def test_an_async_test_runs_it_as_well() -> None:
    local = Local().on_approval("Sell?", approve().after(days(3))).replace(send_mail, "sent")
    assert (await local.run_async(sell, 500)).output == [500, "sent"]
    assert local.run(sell, 500).elapsed == days(3)
