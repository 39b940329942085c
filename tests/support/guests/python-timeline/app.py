"""What the behaviour tests of Python guests run: a timeline with every kind of rule, and small ones driven by input.

Effects are requests to the fake cloud, which counts them: `/notes/x` answers how often it was asked for that path.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from cerebelum import (
    ApprovalRejected,
    ApprovalTimeout,
    Context,
    approval,
    component,
    http,
    poll,
    retry,
    sleep,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum.compat import ProgressReporter
from cerebelum.timeline import WorkflowBuilder, back_to, end, skip_to


@dataclass
class Plan:
    """What is to happen."""

    base_url: str = ""
    nap_ms: int = 300
    rounds: int = 1
    failures: int = 0
    limit: int = 2
    paths: list[str] = field(default_factory=list)


async def count(inputs: Plan, what: str) -> int:
    """Does something, for the how-manieth time."""
    reply = await http.post(f"{inputs.base_url}/notes/{what}")
    return int(reply.raise_for_status().json()["asked"])


# Every kind of rule: a repeated step, a jump back, a jump forward, a branch, a detour, an early end.


@step
async def begin(context: Context, inputs: Plan) -> int:
    """Where each round begins."""
    return await count(inputs, "begin")


@step
async def nap(context: Context, inputs: Plan) -> None:
    """Where the engine is killed."""
    await sleep(inputs.nap_ms)


@step(retry=1)
async def flaky(context: Context, inputs: Plan) -> dict[str, Any]:
    """Refuses some times."""
    number = await count(inputs, "flaky")
    return {"error": "refused"} if number <= inputs.failures else {"ok": number}


@step
async def judge(context: Context, inputs: Plan, begin: int, detour: str | None = None) -> dict[str, str]:
    """Says where to go."""
    await count(inputs, "judge")
    return {"ok": "again" if begin < inputs.rounds else "good"}


@step
async def passed_over(context: Context, inputs: Plan) -> None:
    """Never runs."""
    await count(inputs, "passed_over")


@step(retry=1)
async def detour(context: Context, inputs: Plan) -> str:
    """Runs where another step failed."""
    await count(inputs, "detour")
    return "detour"


@step
async def measure(context: Context, inputs: Plan, begin: int) -> int:
    """What the branch looks at."""
    return begin


@step
async def small(context: Context, inputs: Plan, measure: int) -> str:
    """One side."""
    await count(inputs, "small")
    return f"small {measure}"


@step
async def large(context: Context, inputs: Plan, measure: int) -> str:
    """The other side."""
    await count(inputs, "large")
    return f"large {measure}"


@step
async def report(
    context: Context, inputs: Plan, flaky: int | None = None, small: str | None = None, large: str | None = None
) -> list[Any]:
    """What every way leads to."""
    await count(inputs, "report")
    return [flaky, small, large]


@workflow
def routes(wf: WorkflowBuilder) -> None:
    """Back while there are rounds left, then forward."""
    wf.timeline(begin >> nap >> flaky >> judge >> passed_over >> measure >> small >> large >> report)
    wf.diverge(flaky, {"refused": retry(2, delay=20), "error": end()})
    wf.diverge(judge, {"again": back_to(begin), "good": skip_to(measure)})
    wf.branch(after=measure, condition=lambda number: number > 2, when_true=large, when_false=small)


@workflow
def detours(wf: WorkflowBuilder) -> None:
    """A failure that another step takes over."""
    wf.timeline(flaky >> nap >> report)
    wf.diverge(flaky, {"ok": end(), "error": detour >> nap})


@workflow
def unruled(wf: WorkflowBuilder) -> None:
    """An error that no rule is there for."""
    wf.timeline(flaky >> report)


@workflow
def crossroads(wf: WorkflowBuilder) -> None:
    """A condition that raises."""
    wf.timeline(begin >> small_or_not >> report)
    wf.branch(after=small_or_not, condition=lambda text: text["no such thing"], when_true=detour)


@step
async def small_or_not(context: Context, inputs: Plan) -> str:
    """Not what the condition expects."""
    return "text"


# A group of which one branch fails at once.


@step
async def late(context: Context, inputs: Plan) -> int:
    """Ends well, after a while."""
    await sleep(inputs.nap_ms)
    return await count(inputs, "late")


@step(retry=1)
async def broken(context: Context, inputs: Plan) -> None:
    """Fails at once."""
    raise ValueError("broken at once")


@workflow
def partly(wf: WorkflowBuilder) -> None:
    """Both branches are waited for; then the failure counts."""
    wf.timeline([late, broken] >> report)


# Sleeps, requests, polls and retries.


@step
async def naps(context: Context, inputs: Plan) -> list[int]:
    """Counts, sleeps, counts …; the locals are there after each sleep."""
    seen = []
    for _ in range(inputs.rounds):
        seen.append(await count(inputs, "nap"))
        await sleep(inputs.nap_ms)
    return seen


@workflow
def ends_with_a_sleep(wf: WorkflowBuilder) -> None:
    """The last step's last line is a sleep."""
    wf.timeline(begin >> naps)


@step
async def post(context: Context, base_url: str, path: str) -> int:
    """Posts once."""
    return (await http.post(f"{base_url}/{path}")).status


@workflow
async def posts(context: Context, inputs: Plan) -> list[int]:
    """One step after the other."""
    return [await post(context, inputs.base_url, path) for path in inputs.paths]


@step(retry=1)
async def patient(context: Context, inputs: Plan) -> list[Any]:
    """Polls until its fifth look and then retries until its fourth attempt, counting what it sees."""
    looks: list[int] = []
    tries: list[int] = []
    last = await poll(
        lambda: count(inputs, "look"),
        interval=inputs.nap_ms,
        success_condition=lambda number: number >= 5,
        on_attempt=lambda number, _: looks.append(number),
    )

    async def attempt() -> int:
        number = await count(inputs, "try")
        if number < 4:
            raise ConnectionError(f"attempt {number} failed")
        return number

    tried = await retry(
        attempt,
        max_attempts=4,
        delay=inputs.nap_ms,
        on_error=ConnectionError,
        on_attempt=lambda number, _: tries.append(number),
    )
    return [last, looks, tried, tries]


@workflow
def counting(wf: WorkflowBuilder) -> None:
    """Counters of polls and retries."""
    wf.timeline(patient)


@step
@sleep(seconds=0.9)
async def decorated(context: Context, inputs: Plan) -> int:
    """Sleeps before its body."""
    return await count(inputs, "decorated")


@step(retry=1)
@poll(condition=lambda number: number >= 3, interval=0.02, max_attempts=5)
async def repeated(context: Context, inputs: Plan) -> int:
    """Runs until its result is good."""
    return await count(inputs, "repeated")


@workflow
def decorators(wf: WorkflowBuilder) -> None:
    """A sleep and a poll as decorators."""
    wf.timeline(decorated >> repeated)


@workflow
async def sleeps(context: Context, ms: int) -> str:
    """Sleeps."""
    await sleep(ms)
    return "awake"


# People, signals, failures, progress, values.


@workflow
async def asks(context: Context, timeout_ms: int | None = None) -> list[Any]:
    """Asks a person; a no and a silence are results."""
    try:
        answer = await approval("Go live?", data={"version": 1}, timeout=timeout_ms)
    except ApprovalRejected as no:
        return ["no", no.kind, no.message]
    except ApprovalTimeout as silence:
        return ["silence", silence.kind]
    return ["yes", answer.data, answer.comment]


@workflow
async def hears(context: Context, names: list[str]) -> list[Any]:
    """Waits for signals, one after the other."""
    return [await wait_for_signal(name) for name in names]


@step(retry=1)
async def gate(context: Context, inputs: Plan) -> str:
    """Fails until somebody switches it on."""
    reply = await http.post(f"{inputs.base_url}/switch/gate")
    return str(reply.raise_for_status().json())


@workflow
def gated(wf: WorkflowBuilder) -> None:
    """A step that ran, one that fails, and one behind it."""
    wf.timeline(begin >> gate >> report)


@step
async def told(context: Context, inputs: Plan) -> int:
    """Reports progress around a sleep."""
    progress = ProgressReporter(context)
    progress.update(10, "before the sleep")
    print("printed before the sleep")
    await sleep(inputs.nap_ms)
    progress.update(90, "after the sleep")
    return progress.last_progress


@workflow
def tells(wf: WorkflowBuilder) -> None:
    """Progress and output of a step that sleeps."""
    wf.timeline(told)


@step
async def same(context: Context, value: Any) -> Any:
    """Gives back what it was given."""
    return value


@workflow
async def echoes(context: Context, value: Any) -> Any:
    """The same through a step, over a sleep."""
    first, second = await asyncio.gather(same(context, value), same(context, {"inside": value}))
    await sleep(400)
    return [first, second["inside"]]


component(hosts=["127.0.0.1", "localhost"])
