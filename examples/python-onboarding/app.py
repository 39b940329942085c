"""Somebody's first weeks: twelve steps, three groups of them at the same time, and rules for what may go wrong.

check_contract
>> [create_account, order_laptop, reserve_desk]    a laptop that is back soon is asked for again
>> assign_mentor
>> [grant_mail, grant_code]
>> approve_access                                  a person says yes or no
>> [send_welcome, schedule_training]
>> wait_for_first_day
>> report
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cerebelum import ApprovalRejected, Context, approval, component, http, retry, sleep, step, workflow
from cerebelum.timeline import WorkflowBuilder, fail, skip_to

WEEK_MS = 7 * 86_400_000


@dataclass
class Person:
    """Who comes, how, and when."""

    base_url: str
    name: str
    contract: str = "permanent"
    """`permanent`, or `freelance`; others are not signed here."""
    laptop: str = "standard"
    is_remote: bool = False
    first_day_ms: int = WEEK_MS
    """Until the first day; a week."""
    answer_ms: int = 3 * 86_400_000
    """For the answer about access; three days."""


async def note(inputs: Person, what: str, **details: Any) -> None:
    """Writes down that something was done."""
    reply = await http.post(f"{inputs.base_url}/notes/{what}", json={"name": inputs.name, **details})
    reply.raise_for_status()


@step(retry=1)
async def check_contract(context: Context, inputs: Person) -> dict[str, Any]:
    """Says which contract it is."""
    if inputs.contract not in ("permanent", "freelance"):
        return {"error": f"nobody signs a contract called {inputs.contract}"}
    return {"ok": inputs.contract}


@step
async def sign_agreement(context: Context, inputs: Person) -> str:
    """Freelancers sign one more paper."""
    await note(inputs, "agreement")
    return "signed"


@step
async def create_account(context: Context, inputs: Person) -> str:
    """Creates the account; yields its name."""
    await note(inputs, "account")
    return inputs.name.lower()


@step(retry=1)
async def order_laptop(context: Context, inputs: Person) -> dict[str, Any]:
    """Orders the laptop that was wished for."""
    reply = await http.post(f"{inputs.base_url}/orders/{inputs.laptop}")
    if reply.status == 409:
        return {"error": reply.text}
    return {"ok": {"laptop": inputs.laptop, "order": reply.raise_for_status().json()}}


@step
async def lend_laptop(context: Context, inputs: Person) -> str:
    """There is always one in the cupboard."""
    await note(inputs, "loan")
    return "a used one"


@step
async def reserve_desk(context: Context, inputs: Person) -> dict[str, bool]:
    """Finds a place to work at."""
    return {"is_remote": inputs.is_remote}


@step
async def print_badge(context: Context, inputs: Person) -> None:
    """For those who come to the office."""
    await note(inputs, "badge")


@step
async def send_headset(context: Context, inputs: Person) -> None:
    """For those who do not."""
    await note(inputs, "headset")


@step
async def assign_mentor(context: Context, inputs: Person) -> str:
    """Finds somebody to ask."""
    await note(inputs, "mentor")
    return "Grace"


@step
async def grant_mail(context: Context, inputs: Person, create_account: str) -> None:
    """Opens a mailbox."""
    await note(inputs, "mailbox", account=create_account)


@step
async def grant_code(context: Context, inputs: Person, create_account: str) -> None:
    """Opens the repository for reading."""
    await note(inputs, "repository", account=create_account)


@step(retry=1)
async def approve_access(context: Context, inputs: Person, assign_mentor: str) -> dict[str, Any]:
    """Asks the mentor whether to open the rest; a no has a rule, silence has none and fails the execution."""
    try:
        answer = await approval(
            "access approval",
            kind="access",
            data={"mentor": assign_mentor},
            timeout=timedelta(milliseconds=inputs.answer_ms),
        )
    except ApprovalRejected as no:
        context.log(no.message)
        return {"error": "refused"}
    return {"ok": {"by": answer.by}}


@step
async def send_welcome(context: Context, inputs: Person, assign_mentor: str) -> int:
    """Sends a mail; yields its number."""
    reply = await http.post(f"{inputs.base_url}/mails", json=f"Welcome, {inputs.name}! Ask {assign_mentor}.")
    number: int = reply.raise_for_status().json(int)
    return number


@step
async def schedule_training(context: Context, inputs: Person) -> None:
    """Books the courses."""
    await note(inputs, "training")


@step
async def wait_for_first_day(context: Context, inputs: Person) -> None:
    """Sleeps until then."""
    await sleep(timedelta(milliseconds=inputs.first_day_ms))


@step
async def report(
    context: Context,
    inputs: Person,
    create_account: str,
    order_laptop: dict[str, Any] | None = None,
    lend_laptop: str | None = None,
    *,
    sign_agreement: str | None = None,
    send_welcome: int | None = None,
) -> dict[str, Any]:
    """Says what came of it. What not every way through the timeline leads to has a default."""
    return {
        "account": create_account,
        "laptop": order_laptop["laptop"] if order_laptop else lend_laptop,
        "agreement": sign_agreement,
        "welcome": send_welcome,
    }


@workflow
def onboarding(wf: WorkflowBuilder) -> None:
    """From contract to first day."""
    wf.timeline(
        check_contract
        >> [create_account, order_laptop, reserve_desk]
        >> assign_mentor
        >> [grant_mail, grant_code]
        >> approve_access
        >> [send_welcome, schedule_training]
        >> wait_for_first_day
        >> report
    )
    wf.diverge(check_contract, {"freelance": sign_agreement, "error": fail("this contract is one for the lawyers")})
    wf.diverge(order_laptop, {"back soon": retry(3, delay=timedelta(milliseconds=500)), "out of stock": lend_laptop})
    wf.branch(
        after=reserve_desk, condition=lambda desk: desk["is_remote"], when_true=send_headset, when_false=print_badge
    )
    # Without access there is nothing to be trained in.
    wf.diverge(approve_access, {"refused": skip_to(wait_for_first_day)})


component(hosts=["127.0.0.1", "localhost"])
