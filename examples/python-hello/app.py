"""The smallest workflows: two steps in a row, as a timeline and as an async function."""

from typing import Any

from cerebelum import Context, component, http, step, workflow
from cerebelum.timeline import WorkflowBuilder

USERS = {"7": {"name": "Ada", "email": "ada@example.com"}}


@step(retry=1)
async def fetch_user(context: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Looks a user up; there is an answer for each case, and it stands in the history."""
    user = USERS.get(inputs["user_id"])
    return {"ok": user} if user else {"error": f"there is no user {inputs['user_id']}"}


@step
async def send_email(context: Context, inputs: dict[str, Any], fetch_user: dict[str, str]) -> dict[str, Any]:
    """Sends a mail to the user that `fetch_user` found: a parameter is named after the step whose result it wants."""
    mail = {"to": fetch_user["email"], "text": f"Hello, {fetch_user['name']}!"}
    sent = await http.post(f"{inputs['base_url']}/mails", json=mail)
    return {"ok": {"sent_to": mail["to"], "number": sent.raise_for_status().json()}}


@workflow
def welcome(wf: WorkflowBuilder) -> None:
    """Finds a user and writes to them: `{"user_id": "7", "base_url": "http://…"}`."""
    wf.timeline(fetch_user >> send_email)


@step
async def step_1(context: Context, inputs: Any) -> int:
    """What it returns is its result; the envelope `{"ok": …}` may be left out."""
    return 42


@step
async def step_2(context: Context, step_1: int) -> int:
    """Twice the result of `step_1`."""
    return step_1 * 2


@workflow
def double(wf: WorkflowBuilder) -> None:
    """Two steps that hand a number on; yields 84."""
    wf.timeline(step_1 >> step_2)


@step
async def greet(context: Context, name: str) -> str:
    """Makes up a greeting."""
    context.log(f"greeting {name}")
    return f"Hello, {name}!"


@workflow
async def hello(context: Context, name: str) -> str:
    """The same idea as an async function, which is the form to begin with: a step is called like any function."""
    return await greet(context, name)


component(hosts=["127.0.0.1", "localhost"])
