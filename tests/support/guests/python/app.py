"""What asyncio offers, on durable calls: each workflow goes through one thing and returns what it saw.

Winners of races take milliseconds and losers an hour, so that the result is the same however often the engine is killed
meanwhile.
"""

import asyncio
import contextvars
import logging
import os
import random
import socket
import subprocess
import threading
import time
import uuid
from datetime import datetime, timedelta

from cerebelum import Context, Failure, call_step, http, poll, sleep, step, wait_for_signal, workflow

HOUR = 3_600


@step
async def echo(context: Context, value: object) -> object:
    """Gives back what it was given."""
    return value


@step
async def pause(context: Context, ms: int) -> int:
    """Sleeps inside a step."""
    await asyncio.sleep(ms / 1000)
    return ms


@step(retry=1)
async def fails(context: Context, text: str) -> None:
    """Raises."""
    raise ValueError(text)


class Mute(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("not even that")


@step(retry=1)
async def odd(context: Context, what: str) -> str:
    """Does what nobody does on purpose."""
    if what == "mute":
        raise Mute
    if what == "log":
        logging.getLogger("odd").warning("%d of %s", 1)
    if what == "body":
        await http.post("http://127.0.0.1:1/", content=b"x" * (4 << 20))
    if what == "cancelled":
        task = asyncio.create_task(asyncio.sleep(1))
        task.cancel()
        await task
    if what == "loop":
        asyncio.get_running_loop().run_until_complete(None)
    if what == "lazy":
        import csv

        return csv.__name__
    return "survived"


@workflow
async def odds(context: Context) -> dict:
    """Each ends with a line that says what is wrong."""
    said = {}
    for what in ("mute", "log", "body", "cancelled", "loop", "lazy"):
        try:
            said[what] = await odd(context, what)
        except Failure as failure:
            said[what] = f"{failure.kind}: {failure.message}"
    try:
        await sleep(2**70)
    except Failure as failure:
        said["year"] = failure.kind
    return said


@workflow
async def nothing(context: Context) -> None:
    """What a workflow costs that does nothing."""


@workflow
async def gathers(context: Context) -> list:
    values = await asyncio.gather(echo(context, 1), pause(context, 20), echo(context, 3), pause(context, 5))
    mixed = await asyncio.gather(echo(context, 4), fails(context, "no"), return_exceptions=True)
    return [values, mixed[0], type(mixed[1]).__name__, mixed[1].type]


@workflow
async def waits(context: Context) -> list:
    trace = []

    async def loser() -> None:
        try:
            await asyncio.sleep(HOUR)
        finally:
            trace.append(await echo(context, "cleaned up"))

    tasks = [asyncio.create_task(loser()), asyncio.create_task(echo(context, "won"))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    trace.append([task.result() for task in done])
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    bad = [asyncio.create_task(fails(context, "no")), asyncio.create_task(loser())]
    done, pending = await asyncio.wait(bad, return_when=asyncio.FIRST_EXCEPTION)
    trace.append([type(task.exception()).__name__ for task in done])
    done, pending = await asyncio.wait(pending, timeout=0.02)
    trace.append([len(done), len(pending)])
    done, pending = await asyncio.wait([asyncio.create_task(echo(context, n)) for n in range(3)])
    trace.append(sorted(task.result() for task in done))
    return trace


@workflow
async def waits_for(context: Context) -> list:
    trace = [await asyncio.wait_for(echo(context, "in time"), timeout=HOUR)]
    try:
        await asyncio.wait_for(asyncio.sleep(HOUR), timeout=0.03)
    except TimeoutError:
        trace.append("too late")
    trace.append(await echo(context, "afterwards"))
    return trace


@workflow
async def timeouts(context: Context) -> list:
    trace = []
    try:
        async with asyncio.timeout(0.03):
            await sleep(timedelta(hours=1))
    except TimeoutError:
        trace.append("out of time")
    async with asyncio.timeout(0.03) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + HOUR)
        trace.append(await pause(context, 60))
    try:
        async with asyncio.timeout(HOUR), asyncio.timeout_at(asyncio.get_running_loop().time() + 0.02):
            await wait_for_signal("never")
    except TimeoutError:
        trace.append("the inner one")
    return trace


@workflow
async def tasks(context: Context) -> list:
    trace = []

    async def child(number: int) -> int:
        trace.append(f"begin {number}")
        await pause(context, number)
        return number

    first, second = asyncio.create_task(child(1)), asyncio.create_task(child(2), name="second")
    trace.append(await second)
    trace.append(await first)
    lost = asyncio.create_task(child(HOUR * 1000))
    await asyncio.sleep(0)
    lost.cancel("enough")
    try:
        await lost
    except asyncio.CancelledError as error:
        trace.append(f"cancelled: {error}")
    gate = asyncio.Event()

    async def behind_the_gate() -> int:
        await gate.wait()
        return await pause(context, 20)

    inner = asyncio.create_task(behind_the_gate())
    try:
        await asyncio.wait_for(asyncio.shield(inner), 0.001)
    except TimeoutError:
        trace.append("still running")
    gate.set()
    trace.append(await inner)
    return trace


@workflow
async def completions(context: Context) -> list:
    trace = []
    gate = asyncio.Event()

    async def second() -> int:
        await gate.wait()
        return await pause(context, 40)

    for task in asyncio.as_completed([second(), echo(context, "quick")]):
        trace.append(await task)
        gate.set()
    async for task in asyncio.as_completed([asyncio.create_task(echo(context, "again"))]):
        trace.append(task.result())
    try:
        for task in asyncio.as_completed([asyncio.sleep(HOUR)], timeout=0.02):
            await task
    except TimeoutError:
        trace.append("out of time")
    return trace


@workflow
async def sleeps(context: Context) -> list:
    trace = []

    async def after(ms: int) -> None:
        await asyncio.sleep(ms / 1000)
        trace.append(ms)

    await asyncio.gather(after(60), after(20), after(40), after(0))
    await sleep(10)
    await asyncio.sleep(-1)
    time.sleep(0.02)
    began = time.time()
    await sleep(timedelta(milliseconds=30))
    trace.append(time.time() - began >= 0.03)
    return trace


@workflow
async def queues(context: Context) -> list:
    trace: list = []
    queue: asyncio.Queue = asyncio.Queue(maxsize=2)

    async def produce() -> None:
        for number in range(4):
            await queue.put(await echo(context, number))
        await queue.put(None)

    async def consume() -> None:
        while (item := await queue.get()) is not None:
            trace.append(item)
            await pause(context, 2)

    await asyncio.gather(produce(), consume())
    return trace


@workflow
async def locks(context: Context) -> list:
    trace: list = []
    lock, event, two = asyncio.Lock(), asyncio.Event(), asyncio.Semaphore(2)
    condition, barrier = asyncio.Condition(), asyncio.Barrier(2)

    async def locked(number: int) -> None:
        async with lock:
            trace.append(f"in {number}")
            await pause(context, 3)
            trace.append(f"out {number}")

    await asyncio.gather(locked(1), locked(2))

    async def waiter() -> None:
        await event.wait()
        async with condition:
            await condition.wait()
        await barrier.wait()
        trace.append("through")

    task = asyncio.create_task(waiter())
    await echo(context, "then")
    event.set()
    await asyncio.sleep(0.005)
    async with condition:
        condition.notify_all()
    await barrier.wait()
    await task
    async with two:
        trace.append(two.locked())
    return trace


@workflow
async def groups(context: Context) -> list:
    trace: list = []
    async with asyncio.TaskGroup() as group:
        one, two = group.create_task(echo(context, 1)), group.create_task(pause(context, 5))
    trace += [one.result(), two.result()]

    async def sibling() -> None:
        try:
            await asyncio.sleep(HOUR)
        except asyncio.CancelledError:
            trace.append("sibling cancelled")
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(sibling())
            group.create_task(fails(context, "no"))
    except* Failure as errors:
        trace.append([str(error) for error in errors.exceptions])
    return trace


request: contextvars.ContextVar[str] = contextvars.ContextVar("request")


@workflow
async def generators(context: Context) -> list:
    trace: list = []
    closed = asyncio.Event()

    async def numbers():
        try:
            for number in range(10):
                yield await echo(context, number)
        finally:
            await pause(context, 1)
            trace.append("closed")
            closed.set()

    async for number in numbers():
        trace.append(number)
        if number == 1:
            break
    await closed.wait()
    request.set("outer")

    async def named(name: str) -> str:
        request.set(name)
        await pause(context, 1)
        return request.get()

    trace += await asyncio.gather(named("a"), named("b"))
    trace.append(request.get())
    return trace


@workflow
async def chance(context: Context) -> bool:
    """What is random or tells the time is the same on every rerun: each value is compared with what a step recorded."""
    same = []
    for _ in range(3):
        drawn = [
            random.random(),
            str(uuid.uuid4()),
            os.urandom(4).hex(),
            time.time(),
            datetime.now().isoformat(),
            context.now().isoformat(),
            time.monotonic(),
        ]
        same.append(await echo(context, drawn) == drawn)
        await sleep(2)
    return same


@workflow
async def polls(context: Context) -> list:
    seen: list = []
    value = await poll(
        lambda: echo(context, len(seen)),
        interval=5,
        success_condition=lambda n: n == 3,
        on_attempt=lambda n, value: seen.append([n, value]),
    )
    return [value, seen]


@step
async def inner(context: Context) -> list:
    """Races and timeouts inside a step."""
    trace = await asyncio.gather(echo(context, 1), pause(context, 5))
    try:
        await asyncio.wait_for(asyncio.sleep(HOUR), 0.02)
    except TimeoutError:
        trace.append("out of time")
    await sleep(5)
    return trace


@workflow
async def inside(context: Context) -> list:
    return [await inner(context), await inner(context)]


@workflow
async def hundred(context: Context) -> int:
    """A timeout around many steps is one timer."""
    total = 0
    async with asyncio.timeout(HOUR):
        for _ in range(100):
            total += await asyncio.wait_for(echo(context, 1), HOUR // 2)
    return total


@workflow
async def busy(context: Context, rounds: int) -> int:
    """One step after the other: the execution is never idle."""
    for done in range(rounds):
        await echo(context, done)
        if done == 0:
            context.set_attribute("moved", value=True)
    return rounds


@workflow
async def refused(context: Context) -> dict:
    """What a component does not have says so."""
    said = {"to_thread": await asyncio.to_thread(sum, [1, 2])}
    for name, attempt in {
        "thread": lambda: threading.Thread(target=print).start(),
        "socket": lambda: socket.create_connection(("localhost", 80)),
        "process": lambda: subprocess.run(["true"], check=False),
        "system": lambda: os.system("true"),
        "file": lambda: open("/etc/passwd"),
    }.items():
        try:
            attempt()
        except Exception as error:
            said[name] = str(error)
    for name, call in {
        "connection": lambda: asyncio.open_connection("localhost", 80),
        "subprocess": lambda: asyncio.create_subprocess_exec("true"),
    }.items():
        try:
            await call()
        except Exception as error:
            said[name] = str(error)
    return said


@workflow
async def leftovers(context: Context) -> str:
    """What is still running at the end is cancelled, and what it does then counts."""

    async def cleaned(name: str) -> None:
        try:
            await asyncio.sleep(HOUR)
        finally:
            await echo(context, f"cleaned {name}")

    async def broken() -> None:
        raise RuntimeError("nobody awaits this")

    kept = [asyncio.create_task(cleaned(name)) for name in ("a", "b")]
    kept.append(asyncio.create_task(broken()))
    kept.append(asyncio.create_task(asyncio.Event().wait()))
    await asyncio.sleep(0.001)
    kept.append(asyncio.create_task(cleaned("never begun")))
    return "done"


@workflow
async def stuck(context: Context) -> None:
    """Waits for nothing that could happen."""
    await asyncio.Event().wait()


@workflow
async def cancelled(context: Context) -> str:
    """Cleans up when it is cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(HOUR))
            group.create_task(wait_for_signal("never"))
    finally:
        await echo(context, "cleaned up")
        await asyncio.sleep(0.01)
        await echo(context, "slept over it")
    return "not reached"


@workflow
async def cancelled_in_a_sleep(context: Context) -> str:
    """The same, in a plain sleep."""
    try:
        await asyncio.sleep(HOUR)
    except asyncio.CancelledError:
        await echo(context, "cleaned up")
        raise
    return "not reached"


@workflow
async def elsewhere(context: Context, value: object) -> object:
    """Calls a step of another component, in another language."""
    return await call_step("test-guests/echo", value)


@workflow
async def sequence_then_signal(context: Context, steps: int) -> int:
    """Steps of another component one after the other, and then a wait for a signal."""
    number = 0
    for _ in range(steps):
        number = await call_step("test-guests/increment", number)
    await wait_for_signal("go")
    return number
