"""Options of polls and retries: misspelt ones are refused before a try, and permanent errors end a retry."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from cerebelum import Context, Failure, not_yet, poll, ready, retry, step, workflow
from cerebelum.http import HttpError
from cerebelum.testing import Local, reply, seconds

SCHEDULE = "interval, max_attempts, timeout"


@step
async def look(context: Context, name: str) -> Any:
    return ready(name)


def message_of(call: Callable[[], Any]) -> str:
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


def test_a_poll_names_the_options_that_it_knows() -> None:
    forms: list[tuple[Callable[[], Any], str]] = [
        (lambda: poll(look, "db", every="1s"), f"poll does not know 'every'; it knows {SCHEDULE}"),  # type: ignore[call-overload]
        (
            lambda: poll(lambda: 1, every="1s"),  # type: ignore[call-overload]
            f"poll does not know 'every'; it knows {SCHEDULE}, success_condition, on_attempt",
        ),
        (
            lambda: poll(condition=bool, attempts=3),  # type: ignore[call-overload]
            f"poll does not know 'attempts'; it knows condition, {SCHEDULE}",
        ),
        (
            lambda: poll(look, "db", success_condition=bool),
            "a check that is a step answers ready(value) or not_yet(seen) itself: no condition here",
        ),
        (lambda: poll(print, "db"), "poll calls a function without arguments: poll(lambda: check(order))"),
    ]
    for call, said in forms:
        assert message_of(call).startswith(said)


def test_a_misspelt_option_is_no_argument_of_the_authors_function() -> None:
    tries: list[str] = []

    @step(retry={"max_attempts": 5, "delay": "1s"})
    async def announce(context: Context) -> None:
        tries.append("step")

        async def post() -> None:
            tries.append("post")

        await retry(post, attempts=5)

    run = Local().run_step(announce)
    assert run.failure is not None
    assert run.failure.message == (
        "retry cannot call post: got an unexpected keyword argument 'attempts'; "
        "retry's own options are max_attempts, delay, max_delay, backoff, on_error, on_attempt"
    )
    assert (run.failure.type, run.failure.retryable, tries) == ("TypeError", False, ["step"])


def test_a_call_is_checked_only_as_far_as_its_signature_is_known() -> None:
    def connected(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function("connection", *args, **kwargs)

        return inner

    @connected
    def send(connection: str, text: str) -> list[str]:
        return [connection, text]

    @workflow
    async def flow(context: Context) -> Any:
        return [await retry(send, "hello"), await retry(dict, a=1), await retry(look, context, name="db")]

    assert Local().run(flow).output == [["connection", "hello"], {"a": 1}, {"ready": "db"}]
    assert "retry cannot call look: missing a required argument: 'name'" in message_of(lambda: retry(look, None))


def test_a_permanent_error_ends_a_retry_at_once() -> None:
    tries: list[str] = []

    class Broken(Exception):
        _is_permanent = True

    def failing(error: Exception) -> Callable[[], None]:
        def attempt() -> None:
            tries.append(type(error).__name__)
            raise error

        return attempt

    errors = [
        Failure("no card", kind="declined", retryable=False),
        Broken("for good"),
        ModuleNotFoundError("gone"),
        Failure("a while"),
    ]

    @workflow
    async def flow(context: Context) -> list[str]:
        said = []
        for error in errors:
            try:
                await retry(failing(error), on_error=Exception)
            except Exception as last:
                said.append(str(last))
        return said

    run = Local().run(flow)
    assert run.output == [str(error) for error in errors]
    assert tries == ["Failure", "Broken", "ModuleNotFoundError", *["Failure"] * 3]
    assert run.elapsed == seconds(2)


def test_a_status_that_stays_is_not_asked_for_again() -> None:
    from cerebelum import http

    asked: list[str] = []

    def server(request: Any) -> Any:
        asked.append(request.url)
        return reply(404 if "missing" in request.url else 503 if asked.count(request.url) < 3 else 200)

    @step(retry=1)
    async def fetch(context: Context, path: str) -> int:
        async def get() -> http.Response:
            return (await http.get(f"http://cloud/{path}")).raise_for_status()

        return (await retry(get, on_error=HttpError, max_attempts=5)).status  # type: ignore[no-any-return]

    assert Local().on_http(server).run_step(fetch, "busy").output == 200
    failed = Local().on_http(server).run_step(fetch, "missing")
    assert failed.failure is not None
    assert (failed.failure.kind, failed.elapsed) == ("http-status", seconds(0))
    assert asked == [*["http://cloud/busy"] * 3, "http://cloud/missing"]


def test_max_delay_is_the_longest_wait(hibernating: bool) -> None:
    @workflow
    async def flow(context: Context) -> list[float]:
        began, times = context.now(), []

        def attempt() -> None:
            times.append((context.now() - began).total_seconds())
            if len(times) < 6:
                raise ConnectionError("not yet")

        await retry(attempt, max_attempts=10, delay="2s", backoff=2.0, max_delay="5s")
        return times

    local = Local()
    run = (local.hibernating() if hibernating else local).run(flow)
    assert run.output == [0.0, 2.0, 6.0, 11.0, 16.0, 21.0]


def test_a_check_step_goes_on_without_options() -> None:
    seen: list[int] = []

    @step
    async def count(context: Context) -> Any:
        seen.append(1)
        return ready(len(seen)) if len(seen) == 3 else not_yet()

    @workflow
    async def flow(context: Context) -> Any:
        return await poll(count)

    assert Local().run(flow).output == 3
