"""How local executions are cancelled, and what they leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from cerebelum import Context, StepError, sleep, step, wait_for_signal, workflow
from cerebelum.compat import wait_for_approval

SRC = Path(__file__).parents[2] / "src"


@step
async def double(context: Context, value: int) -> int:
    return value * 2


def execute(flow: Any, inputs: Any = None, **options: Any) -> Any:
    return asyncio.run(flow.execute(inputs, **options))


def test_leftover_tasks_are_cancelled_in_the_order_of_their_creation() -> None:
    order: list[Any] = []

    @workflow
    async def flow(context: Context) -> str:
        async def linger(name: str) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                # Clean-up may still make durable calls.
                order.append((name, await double(context, len(order))))

        tasks = [asyncio.create_task(linger(name)) for name in "abc"]
        await asyncio.sleep(0)
        assert len(tasks) == 3
        return "done"

    assert execute(flow).output == "done"
    assert [name for name, _ in order] == ["a", "b", "c"]


def test_a_cancelled_step_stops_and_races_have_one_winner() -> None:
    reached: list[str] = []

    @step
    async def slow(context: Context) -> str:
        await sleep(600_000)
        reached.append("slow")
        return "slow"

    @step
    async def fast(context: Context) -> str:
        await asyncio.sleep(0.01)
        return "fast"

    @workflow
    async def flow(context: Context) -> Any:
        try:
            await asyncio.wait_for(slow(context), 0.05)
        except asyncio.TimeoutError:
            first = "timeout"
        racers = {asyncio.ensure_future(slow(context)), asyncio.ensure_future(fast(context))}
        done, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for loser in pending:
            loser.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        both = await asyncio.gather(fast(context), double(context, 4))
        return [first, done.pop().result(), both]

    began = time.monotonic()
    assert execute(flow).output == ["timeout", "fast", ["fast", 8]]
    assert time.monotonic() - began < 60
    assert reached == []


def test_cancelling_execute_lets_the_workflow_clean_up() -> None:
    undone: list[Any] = []

    @step
    async def undo(context: Context) -> str:
        await asyncio.sleep(0.01)
        return "undone"

    @workflow
    async def flow(context: Context) -> None:
        try:
            await sleep(60_000)
        except asyncio.CancelledError:
            undone.append(await undo(context))
            raise

    async def main() -> None:
        running = asyncio.create_task(flow.execute())
        await asyncio.sleep(0.05)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert undone == ["undone"]


def test_cancelling_reaches_every_open_call_and_plain_sleeps() -> None:
    told: list[str] = []

    @workflow
    async def child(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("child")
            raise

    @workflow
    async def flow(context: Context) -> None:
        async def wait(name: str, what: Any) -> None:
            try:
                await what
            except asyncio.CancelledError:
                told.append(name)
                raise

        await asyncio.gather(
            wait("signal", wait_for_signal("never")), wait("plain", asyncio.sleep(60)), wait("workflow", child(context))
        )

    async def main() -> None:
        running = asyncio.create_task(flow.execute())
        await asyncio.sleep(0.05)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert sorted(told) == ["child", "plain", "signal", "workflow"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_control_c_ends_a_program_after_its_clean_up(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import asyncio, signal
            from cerebelum import sleep, step, workflow

            @step
            async def undo(context): print("undone", flush=True)

            @workflow
            async def flow(context):
                print("waiting", flush=True)
                try:
                    await sleep(60_000)
                finally:
                    await undo(context)

            # A script's background ignores the signal, and so would its children.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            asyncio.run(flow.execute())
            """
        )
    )
    command = [sys.executable, str(program)]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert out == "undone\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode != 0


def test_nothing_is_left_behind() -> None:
    @step(retry={"max_attempts": 2, "delay": 1})
    async def fails(context: Context) -> None:
        raise ValueError("always")

    @workflow
    async def flow(context: Context) -> str:
        tasks = [asyncio.create_task(fails(context)) for _ in range(3)]
        with pytest.raises(StepError):
            await asyncio.gather(*tasks)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait_for_approval(), 0.01)
        return "done"

    async def main() -> tuple[Any, int, Any]:
        loop = asyncio.get_running_loop()
        complaints: list[Any] = []
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
        result = await flow.execute(approve=lambda asked: time.sleep(0.1) or True)
        gc.collect()
        await asyncio.sleep(0)
        assert loop.get_task_factory() is None
        return result.output, len(asyncio.all_tasks()), complaints

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(main()) == ("done", 1, [])
