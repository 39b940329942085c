"""What each snippet is run for, and what has to come of it, in this process and on a virtual clock."""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from seed_trial import Trial, definitions
from seed_world import FAILURES, IP, READY_AT, Droplet, Later

import cerebelum
from cerebelum import ExecutionError

DAY_S = timedelta(days=1).total_seconds()
# Runs a snippet and looks at what came of it.
Program = Callable[[Trial], Coroutine[Any, Any, None]]
PROGRAMS: dict[str, Program] = {}


def program(
    *names: str,
) -> Callable[[Program], Program]:
    """Says for which snippets a function is."""

    def note(function: Program) -> Program:
        PROGRAMS.update(dict.fromkeys(names, function))
        return function

    return note


def clock_s() -> float:
    """Seconds on the virtual clock."""
    return asyncio.get_running_loop().time()


@program("S0.1")
async def every_helper_once(trial: Trial) -> None:
    await trial.run_in_step()
    # Looks at 0, 5, 10 and 15 s; attempts at 0, 0.5 and 1.5 s; then two seconds.
    assert clock_s() == pytest.approx(15 + 1.5 + 2)
    assert trial["result"] == {"ip": IP}
    assert trial["progress"].last_progress == 50


@program("S0.2")
async def forty_two_twice(trial: Trial) -> None:
    await trial.run()
    assert trial["result"].status == "completed"
    assert trial["result"].output == {"result": 84}


@program("S0.3")
async def a_droplet_in_three_steps(trial: Trial) -> None:
    await trial.run()
    assert trial["result"].output == {"connected": True}
    assert trial.world.seen.looks == READY_AT
    assert trial.world.ssh.calls == FAILURES + 1
    assert clock_s() == pytest.approx(15 + 5 + 10)


@program("S0.5", "S2.1")
async def imports_only(trial: Trial) -> None:
    for name in ("poll", "retry", "step", "workflow", "sleep", "ProgressReporter"):
        trial.names.pop(name, None)
    await trial.run()
    assert callable(trial["poll"])
    assert callable(trial["retry"])


@program("S1.1")
async def a_user_and_a_mail(trial: Trial) -> None:
    await trial.run()
    assert trial["result"].output == "sent"
    assert trial.world.mails == ["ada@example.com"]


@program("S1.4")
async def verify_after_a_day(trial: Trial) -> None:
    trial.text = definitions(trial.text)
    await trial.run()
    assert (await trial["my_workflow"].execute({"version": "1.2"})).output == "verify is done"
    assert trial.world.done == ["deploy", "verify"]
    assert clock_s() == pytest.approx(DAY_S)


@program("S2.2")
async def an_address_that_takes_its_time(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("create_droplet", {}) == {"droplet_id": 7}
    assert await trial.step("wait_for_droplet_ip", {"droplet_id": 7}) == {"ip_address": IP}
    assert clock_s() == pytest.approx(15)


@program("S2.3")
async def ssh_with_growing_delays(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("connect_server", {"ip_address": IP}) == {"connected": True}
    assert trial.world.ssh.calls == FAILURES + 1
    assert clock_s() == pytest.approx(5 + 10)


@program("S2.4")
async def progress_in_four_marks(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("long_deployment", {}) == {"status": "deployed"}
    assert trial.world.done == ["provision_infrastructure", "deploy_app", "run_migrations"]


@program("S2.5")
async def two_mails_with_a_day_between(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("send_reminder", {"user_email": "ada@example.com"}) == {"reminders_sent": 2}
    assert trial.world.mails == [("ada@example.com", "Welcome!"), ("ada@example.com", "Day 1 reminder")]
    assert clock_s() == pytest.approx(DAY_S)


@program("S2.6")
async def polling_by_hand(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("create_droplet", {}) == {"ip_address": IP}
    assert trial.world.blocked_s == 5 * (READY_AT - 1)


@program("S2.7")
async def polling_in_a_step_of_its_own(trial: Trial) -> None:
    await trial.run()
    result = await trial["droplet_deployment"].execute({})
    assert result.output == "configure_server is done"
    assert trial.world.droplet.created == 1
    assert clock_s() == pytest.approx(15)


@program("S2.8")
async def a_certificate(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("wait_for_ssl_cert", {"domain": "example.com"}) == {"status": "issued"}
    assert clock_s() == pytest.approx(30)


@program("S2.9")
async def a_database(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("wait_for_postgres", {"connection_string": "postgres://"}) == {"db_ready": True}
    assert clock_s() == pytest.approx(6)


@program("S2.10")
async def a_build_that_succeeds_or_fails(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("wait_for_build", {"build_id": 1}) == {"status": "success"}
    assert clock_s() == pytest.approx(90)
    trial.names["get_build_status"] = lambda _: {"status": "failure", "error": "3 tests"}
    with pytest.raises(ExecutionError, match="Build failed: 3 tests"):
        await trial.step("wait_for_build", {"build_id": 1})


@program("S2.11", "S2.12", "S2.13")
async def a_documented_signature(trial: Trial) -> None:
    # The reference leaves the body out, and with it the colon.
    trial.text = re.sub(r"(\) -> \w+)$", r"\1: ...", trial.text, count=1, flags=re.MULTILINE)
    name = re.findall(r"async def (\w+)", trial.text)[0]
    await trial.run()
    documented = inspect.signature(trial[name])
    accept_call(documented, [inspect.signature(form) for form in forms(getattr(cerebelum, name))])


def forms(helper: object) -> list[Callable[..., Any]]:
    """The ways in which a helper may be called."""
    return list(typing.get_overloads(type(helper).__call__))  # type: ignore[attr-defined]  # Python 3.11


def accept_call(documented: inspect.Signature, ours: list[inspect.Signature]) -> None:
    """Every parameter is there by its name, in its place, with its default, in one of our forms at least."""
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for wanted in documented.parameters.values():
        found = [form.parameters[wanted.name] for form in ours if wanted.name in form.parameters]
        same = [there for there in found if there.default == wanted.default]
        assert same, f"{wanted} is not in {ours}"
        for kinds in (by_place, by_name):
            assert wanted.kind not in kinds or any(there.kind in kinds for there in same), f"{wanted} against {same}"
        if wanted.kind not in (*by_place, *by_name):
            assert any(there.kind is wanted.kind for there in same), f"{wanted} against {same}"


@program("S2.14")
async def a_retry_of_one_kind_of_error(trial: Trial) -> None:
    await trial.run_in_step()
    assert trial["result"] == {"ip": IP}
    assert clock_s() == pytest.approx(5 * FAILURES)


@program("S2.15")
async def progress(trial: Trial) -> None:
    await trial.run_in_step()
    assert trial["progress"].last_progress == 50


@program("S2.16")
async def fifteen_minutes(trial: Trial) -> None:
    await trial.run_in_step()
    assert clock_s() == pytest.approx(15 * 60)


@program("S2.17")
async def steps_composed(trial: Trial) -> None:
    await trial.run()
    composed = trial["create_resource"] >> trial["wait_for_resource"] >> trial["configure_resource"]

    @trial["workflow"]  # type: ignore[untyped-decorator]
    def flow(wf: Any) -> None:
        wf.timeline(composed)

    assert (await flow.execute()).output == "configure_resource is done"


@program("S2.18")
async def conditions(trial: Trial) -> None:
    await trial.run()
    good, vague = trial.text.split("\n\n")
    for part, is_met_early in ((good, False), (vague, True)):
        attempt = Trial(trial.name, part)
        await attempt.run()
        assert bool(attempt["success_condition"](Droplet())) is is_met_early


@program("S2.19")
async def two_bounds(trial: Trial) -> None:
    address = Later(None, IP)
    trial.names["look"] = address.look
    await trial.run_in_step()
    assert address.looks == READY_AT
    assert clock_s() == pytest.approx(15)


@program("S2.20")
async def telling_callbacks(trial: Trial) -> None:
    await trial.run()
    told: list[str] = []
    for part in trial.text.split("\n\n"):
        attempt = Trial(trial.name, part)
        attempt.names["print"] = told.append
        await attempt.run()
        attempt["on_attempt"](2, {"status": "new"})
    assert told == ["Attempt 2: status=new", "Attempt 2"]


@program("S3.1")
async def two_steps(trial: Trial) -> None:
    await trial.run()
    assert trial["result"].output == "step2 is done"
    assert trial.world.done == ["step1", "step2"]


@program("S3.5")
async def a_day_in_a_step(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("wait_deployment", {}) == "deployed"
    assert clock_s() == pytest.approx(DAY_S)


@program("S4.1")
async def a_droplet_in_four_steps(trial: Trial) -> None:
    await trial.run()
    assert (await trial["deploy_workflow"].execute({})).output == {"configured": True}
    assert trial.world.seen.looks == READY_AT
    assert clock_s() == pytest.approx(3 * (READY_AT - 1) + 5 * FAILURES)


@program("S4.3")
async def decorators_that_wait(trial: Trial) -> None:
    await trial.run()
    assert await trial.step("wait_time", {"n": 1}) == {"n": 1}
    assert clock_s() == pytest.approx(60)
    assert await trial.step("wait_for_ip", {"droplet_id": 7}) == {"ip": IP}
    assert clock_s() == pytest.approx(60 + 15)
    asked: list[Any] = []

    def approve(one: Any) -> bool:
        asked.append(one)
        return True

    assert await trial.execute(trial["wait_approval"], {}, approve=approve) == {"approved": True}
    assert (asked[0].kind, asked[0].timeout_ms) == ("manual", 3_600_000)
