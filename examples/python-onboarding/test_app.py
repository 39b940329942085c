"""Tests of app.py: every way through the timeline, and weeks in no time."""

from typing import Any

from app import grant_code, onboarding, schedule_training

from cerebelum.testing import HttpRequest, HttpResponse, Local, approve, days, reject, reply, seconds

ADA = {"base_url": "http://office", "name": "Ada"}
YES = approve().by("grace").after(days(2))
TWELVE = [
    "check_contract",
    "create_account",
    "order_laptop",
    "reserve_desk",
    "assign_mentor",
    "grant_mail",
    "grant_code",
    "approve_access",
    "send_welcome",
    "schedule_training",
    "wait_for_first_day",
    "report",
]


class Office:
    """Has laptops, and takes notes."""

    def __init__(self, *missing: str) -> None:
        self.missing = list(missing)
        self.notes: list[str] = []

    def __call__(self, request: HttpRequest) -> HttpResponse:
        kind, name = request.url.removeprefix("http://office/").partition("/")[::2]
        if kind == "orders":
            return reply(409, self.missing.pop(0)) if self.missing else reply(201, 1)
        self.notes.append(name)
        return reply(201, 1)


def local(office: Office) -> Local:
    return Local().on_http(office).on_approval("access approval", YES)


def steps(run: Any) -> set[str]:
    return {call.name for call in run.steps}


def test_twelve_steps_lead_to_the_first_day() -> None:
    office = Office()
    run = local(office).run(onboarding, ADA)
    assert run.output == {"account": "ada", "laptop": "standard", "agreement": None, "welcome": 1}
    assert steps(run) == {*TWELVE, "print_badge"}
    assert run.elapsed == days(2) + days(7)


def test_a_freelancer_at_home_takes_other_ways() -> None:
    run = local(Office()).run(onboarding, ADA | {"contract": "freelance", "is_remote": True})
    assert run.output["agreement"] == "signed"
    assert steps(run) == {*TWELVE, "sign_agreement", "send_headset"}
    assert [call.name for call in run.steps][:2] == ["check_contract", "sign_agreement"]


def test_groups_begin_together() -> None:
    run = local(Office()).run(onboarding, ADA)
    began = {call.name: call.began for call in run.steps}
    for group in (TWELVE[1:4], TWELVE[5:7], TWELVE[8:10]):
        assert len({began[name] for name in group}) == 1


def test_an_unknown_contract_ends_it() -> None:
    run = local(Office()).run(onboarding, ADA | {"contract": "verbal"})
    assert run.failure is not None
    assert run.failure.message == "this contract is one for the lawyers"
    assert steps(run) == {"check_contract"}


def test_a_laptop_that_is_back_soon_is_ordered_again() -> None:
    run = local(Office("back soon", "back soon", "back soon")).run(onboarding, ADA)
    assert run.output["laptop"] == "standard"
    assert len(run.calls("order_laptop")) == 4
    assert run.elapsed == days(9) + seconds(1.5)


def test_a_laptop_that_is_gone_is_lent() -> None:
    run = local(Office("out of stock")).run(onboarding, ADA)
    assert run.output["laptop"] == "a used one"


def test_a_laptop_that_never_comes_back_fails_the_onboarding_after_its_group() -> None:
    office = Office(*["back soon"] * 9)
    run = local(office).run(onboarding, ADA)
    assert run.failure is not None
    assert run.failure.message == "back soon"
    assert "account" in office.notes
    assert "assign_mentor" not in steps(run)


def test_a_no_skips_what_depends_on_it() -> None:
    run = Local().on_http(Office()).on_approval(None, reject("too early")).run(onboarding, ADA)
    assert run.output["welcome"] is None
    assert run.calls(schedule_training) == []
    assert run.elapsed == days(7)
    assert any("too early" in line.message for line in run.logs)


def test_silence_fails_it_after_three_days() -> None:
    run = Local().on_http(Office()).run(onboarding, ADA)
    assert run.failure is not None
    assert (run.failure.kind, run.elapsed) == ("approval-timeout", days(3))


def test_a_branch_of_a_group_that_fails_waits_for_the_other_one() -> None:
    office = Office()
    run = local(office).fail(grant_code, times=None, error="no licence left").run(onboarding, ADA)
    assert run.failure is not None
    assert run.failure.message == "no licence left"
    assert "mailbox" in office.notes
    assert "approve_access" not in steps(run)
