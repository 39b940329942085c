"""The helpers as the original documents use them: in a bare script, in steps, in workflows, on the virtual clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from cerebelum import (
    ApprovalRejected,
    ApprovalTimeout,
    Context,
    Failure,
    PollTimeout,
    approval,
    call_step,
    continue_as_new,
    not_yet,
    poll,
    ready,
    retry,
    run_workflow,
    sleep,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum.compat import ProgressReporter, wait_for_approval
from cerebelum.errors import ContextError
from cerebelum.testing import Local, approve, days, hours, minutes, reject, run_virtually, seconds


def clock() -> float:
    return asyncio.get_running_loop().time()


# Outside of any workflow.


def test_all_helpers_work_in_a_bare_script(capsys: pytest.CaptureFixture[str]) -> None:
    attempts: list[int] = []

    async def ready_at_third() -> dict[str, str]:
        attempts.append(len(attempts) + 1)
        return {"status": "active" if len(attempts) == 3 else "new"}

    async def connect(ip: str, port: int = 22) -> str:
        attempts.append(len(attempts) + 1)
        if len(attempts) < 6:
            raise ConnectionError(f"attempt {len(attempts)}")
        return f"{ip}:{port}"

    async def script() -> Any:
        polled = await poll(
            lambda: ready_at_third(),  # noqa: PLW0108 - written so in the original documents
            interval=20,
            max_attempts=10,
            success_condition=lambda seen: seen["status"] == "active",
        )
        connected = await retry(connect, "1.2.3.4", port=2222, max_attempts=5, delay=10, backoff=2.0)
        await sleep(20)
        await sleep(timedelta(milliseconds=20))
        progress = ProgressReporter(Context({}, "execution-1", "demo", "deploy"))
        progress.update(50, "Halfway done...")
        return [polled, connected, progress.last_progress]

    # In real time: it has no test kit around it.
    assert asyncio.run(script()) == [{"status": "active"}, "1.2.3.4:2222", 50]
    assert capsys.readouterr().out == f"  [deploy] {'█' * 10}{'░' * 10} 50% - Halfway done...\n"


def test_a_step_or_workflow_can_be_called_from_a_bare_script() -> None:
    @step(retry={"max_attempts": 2, "delay": 1})
    async def add(context: Context, a: int, b: int = 1) -> int:
        if context.attempt == 1:
            raise ValueError("again")
        return a + b

    @workflow
    async def flow(context: Context, a: int) -> int:
        return await add(context, a)

    async def script() -> Any:
        return [await add(None, 1, b=2), await call_step("add", {"a": 5}), await run_workflow(flow, 2)]  # type: ignore[arg-type]

    assert asyncio.run(script()) == [3, 6, 3]


def test_what_has_no_meaning_outside_says_so() -> None:
    async def script() -> None:
        with pytest.raises(ContextError, match="outside of a workflow"):
            await wait_for_signal("paid")
        with pytest.raises(ContextError, match="outside of a workflow"):
            await continue_as_new(1)

    asyncio.run(script())


def test_helpers_outside_run_on_the_virtual_clock_too() -> None:
    async def script() -> Any:
        began = clock()
        context = Context({}, "e", "w")
        then = context.now()
        await sleep(timedelta(days=40))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sleep(hours(1)), 60)
        return [clock() - began, context.now() - then]

    assert run_virtually(script()) == [40 * 86_400 + 60.0, days(40) + minutes(1)]


# Sleep.


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(2_000, seconds(2)), (0, seconds(0)), (-5, seconds(0)), (0.5, timedelta(milliseconds=1)), (days(25), days(25))],
)
def test_sleep_takes_milliseconds_or_a_timedelta(duration: Any, expected: timedelta, hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> str:
        await sleep(duration)
        return "after"

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert (run.output, run.elapsed) == ("after", expected)


def test_code_after_sleeps_in_a_step_runs_with_its_locals() -> None:
    sent: list[Any] = []

    @step
    async def remind(context: Context, who: str) -> int:
        for number in range(3):
            sent.append((who, number, context.now().day))
            await sleep(days(1))
        return len(sent)

    @workflow
    async def flow(context: Context) -> int:
        return await remind(context, "ada")

    run = Local().run(flow)
    assert (run.output, run.elapsed) == (3, days(3))
    assert sent == [("ada", 0, 1), ("ada", 1, 2), ("ada", 2, 3)]


def test_the_last_step_may_sleep_and_so_may_several_at_once(hibernating: bool) -> None:
    @step
    async def wait(context: Context, wanted: int) -> int:
        await sleep(days(wanted))
        return wanted

    @workflow
    async def flow(context: Context) -> Any:
        together = await asyncio.gather(*(wait(context, wanted) for wanted in (3, 1, 2)))
        await wait(context, 4)
        return together

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert (run.output, run.elapsed) == ([3, 1, 2], days(7))


# Poll.


@pytest.mark.parametrize("is_async", [True, False])
def test_poll_checks_first_and_tells_every_attempt(is_async: bool) -> None:
    told: list[Any] = []

    @step
    async def wait_for_ip(context: Context) -> Any:
        began = context.now()
        seen: list[Any] = []

        def check() -> Any:
            seen.append((context.now() - began).total_seconds())
            return {"ip": "1.2.3.4" if len(seen) == 4 else None}

        async def check_async() -> Any:
            return check()

        found = await poll(
            (lambda: check_async()) if is_async else check,  # noqa: PLW0108
            interval=5_000,
            success_condition=lambda droplet: droplet["ip"] is not None,
            on_attempt=lambda number, result: told.append((number, result["ip"])),
        )
        return [found["ip"], seen]

    @workflow
    async def flow(context: Context) -> Any:
        return await wait_for_ip(context)

    run = Local().run(flow)
    assert run.output == ["1.2.3.4", [0.0, 5.0, 10.0, 15.0]]
    assert told == [(1, None), (2, None), (3, None), (4, "1.2.3.4")]
    assert run.elapsed == seconds(15)


def test_poll_ends_by_attempts_or_by_time_with_the_exact_words(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context, options: dict[str, Any]) -> Any:
        try:
            await poll(lambda: False, **options)
        except TimeoutError as late:
            return [getattr(late, "kind", None), str(late), isinstance(late, PollTimeout)]

    def run(**options: Any) -> Any:
        local = Local()
        return (local.hibernating() if hibernating else local).run(flow, options)

    by_attempts = run(interval=10_000)
    assert by_attempts.output == ["poll-exhausted", "Polling failed after 30 attempts (interval: 10000ms)", True]
    assert by_attempts.elapsed == seconds(290)
    by_time = run(interval=5_000, timeout=12_000)
    assert by_time.output == ["poll-timeout", "Polling timed out after 15000ms (timeout: 12000ms)", True]
    assert by_time.elapsed == seconds(15)


def test_what_a_check_raises_leaves_the_poll() -> None:
    @workflow
    async def flow(context: Context) -> Any:
        def check() -> bool:
            raise LookupError("gone")

        try:
            await poll(check)
        except LookupError as error:
            return str(error)

    assert Local().run(flow).output == "gone"


def test_a_check_step_is_driven_round_by_round(hibernating: bool) -> None:
    keys: list[Any] = []

    @step(retry={"max_attempts": 2, "delay": 1_000})
    async def look(context: Context, name: str) -> Any:
        keys.append((context.idempotency_key, context.attempt))
        if len(keys) == 2:
            raise ConnectionError("a round may be tried again")
        return ready({"name": name}) if len(keys) >= 5 else not_yet(len(keys))

    @workflow
    async def flow(context: Context, attempts: int) -> Any:
        try:
            return await poll(look, "db", interval=minutes(1), max_attempts=attempts)
        except TimeoutError as late:
            return str(late)

    def run(attempts: int) -> Any:
        keys.clear()
        local = Local()
        return (local.hibernating() if hibernating else local).run(flow, attempts)

    found = run(10)
    assert (found.output, found.elapsed) == ({"name": "db"}, minutes(3) + seconds(1))
    assert [attempt for _, attempt in keys] == [1, 1, 2, 1, 1]
    assert keys[1][0] == keys[2][0]
    assert len({key for key, _ in keys}) == 4
    assert run(2).output == "Polling failed after 2 attempts (interval: 60000ms)"


def test_a_check_step_that_says_something_else_fails_the_poll() -> None:
    @step
    async def look(context: Context) -> Any:
        return {"status": "new"}

    @workflow
    async def flow(context: Context) -> Any:
        await poll(look)

    failure = Local().run(flow).failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("invalid-output", False)
    assert failure.message == (
        'a check step answers {"ready": value} or {"not_yet": value}, `look` said {"status":"new"}'
    )


# Retry.


def test_retry_waits_longer_each_time_and_tells_before_each_attempt(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        told: list[Any] = []
        times: list[float] = []
        began = context.now()

        def connect(host: str) -> str:
            times.append((context.now() - began).total_seconds())
            if len(times) < 5:
                raise ConnectionError(f"no {len(times)}")
            return host

        connected = await retry(
            connect,
            "db",
            max_attempts=10,
            delay=5_000,
            backoff=2.0,
            on_error=ConnectionError,
            on_attempt=lambda number, error: told.append([number, error and str(error)]),
        )
        return [connected, times, told]

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    connected, times, told = run.output
    assert connected == "db"
    assert times == [0.0, 5.0, 15.0, 35.0, 75.0]
    assert told == [[1, None], [2, "no 1"], [3, "no 2"], [4, "no 3"], [5, "no 4"]]


def test_retry_passes_on_what_it_is_not_for_and_the_last_error() -> None:
    @workflow
    async def flow(context: Context) -> Any:
        def wrong() -> None:
            raise KeyError("other")

        async def never() -> None:
            raise ConnectionError("still not")

        errors = []
        for function in (wrong, never):
            try:
                await retry(function, on_error=ConnectionError)
            except Exception as error:
                errors.append(type(error).__name__)
        return errors

    run = Local().run(flow)
    assert (run.output, run.elapsed) == (["KeyError", "ConnectionError"], seconds(2))


# Progress.


def test_progress_is_told_with_the_name_of_the_scope(hibernating: bool) -> None:
    @step
    async def deploy(context: Context) -> int:
        progress = ProgressReporter(context)
        for percent, message in ((0, "Starting"), (33, "Copying"), (66, "Installing")):
            progress.update(percent, message)
            await sleep(1_000)
        context.update_progress(250, "Done")
        return progress.last_progress

    @workflow
    async def flow(context: Context) -> int:
        context.update_progress(10, "begun")
        last = await deploy(context)
        context.update_progress(100)
        return last

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.output == 66
    assert run.progress == [
        ("flow", 10, "begun"),
        ("deploy", 0, "Starting"),
        ("deploy", 33, "Copying"),
        ("deploy", 66, "Installing"),
        ("deploy", 100, "Done"),
        ("flow", 100, ""),
    ]


# Decorators.


def test_decorators_count_in_seconds_and_minutes() -> None:
    bodies: list[str] = []

    @step
    @sleep(seconds=60)
    async def later(context: Context) -> str:
        bodies.append("later")
        return context.now().time().isoformat()

    @step
    @poll(condition=lambda result: result["ip"] is not None, interval=5, max_attempts=20)
    async def until_ip(context: Context) -> Any:
        bodies.append("until_ip")
        return {"ip": "1.2.3.4" if bodies.count("until_ip") == 3 else None}

    @step(retry=1)
    @approval(type="deploy", timeout_minutes=60)
    async def approved(context: Context) -> str:
        bodies.append("approved")
        return "went on"

    @workflow
    async def flow(context: Context) -> Any:
        results: list[Any] = [await later(context), await until_ip(context)]
        try:
            results.append(await approved(context))
        except Failure as failure:
            results.append(failure.kind)
        return results

    yes = Local().on_approval(None, approve(), kind="deploy").run(flow)
    assert yes.output == ["00:01:00", {"ip": "1.2.3.4"}, "went on"]
    assert yes.elapsed == seconds(70)
    bodies.clear()
    no = Local().on_approval("approved", reject("not today")).run(flow)
    assert no.output[2] == "rejected"
    bodies.clear()
    late = Local().run(flow)
    assert (late.output[2], late.elapsed) == ("approval-timeout", hours(1) + seconds(70))
    assert "approved" not in bodies


def test_approvals_are_answered_rejected_or_time_out(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> Any:
        try:
            given = await wait_for_approval("deploy", {"version": 3}, 3_600_000)
        except ApprovalRejected as no:
            return ["rejected", no.kind, no.message]
        except ApprovalTimeout as late:
            return ["timeout", late.kind, late.message]
        return [given.data, given.by, given.comment]

    def run(*answer: Any) -> Any:
        local = Local()
        for each in answer:
            local.on_approval("deploy approval", each)
        return (local.hibernating() if hibernating else local).run(flow)

    yes = run(approve({"at": "night"}).after(minutes(59)).by("ada").comment("fine"))
    assert (yes.output, yes.elapsed) == ([{"at": "night"}, "ada", "fine"], minutes(59))
    no = run(reject("too risky").by("bob"))
    assert no.output == ["rejected", "rejected", "rejected by bob: too risky"]
    late = run(approve().after(minutes(61)))
    assert (late.output, late.elapsed) == (["timeout", "approval-timeout", "nobody answered in time"], hours(1))
