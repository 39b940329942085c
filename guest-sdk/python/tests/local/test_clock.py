"""The loop whose time jumps, and what it waits for really."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from cerebelum import Context, step, workflow
from cerebelum.testing import Local, VirtualLoop, run_virtually
from cerebelum.testing.clock import PATIENCE_S, run_on


def test_time_jumps_to_the_next_deadline_and_no_further() -> None:
    async def script() -> list[float]:
        loop = asyncio.get_running_loop()
        times: list[float] = []

        async def wait(seconds: float) -> None:
            await asyncio.sleep(seconds)
            times.append(loop.time())

        await asyncio.gather(wait(1e6), wait(0.001), wait(0.0005), wait(30.0), wait(1e9))
        return times

    began = time.monotonic()
    assert run_virtually(script()) == [0.0005, 0.001, 30.0, 1e6, 1e9]
    assert time.monotonic() - began < 20


def test_the_clock_keeps_milliseconds_apart_after_decades() -> None:
    loop = VirtualLoop(datetime(2024, 1, 1, tzinfo=timezone.utc))

    async def script() -> list[int]:
        start = loop.now_ms()
        for _ in range(1_000):
            await asyncio.sleep(86_400 * 30)
            await asyncio.sleep(0.001)
        return [loop.now_ms() - start - 1_000 * 30 * 86_400_000]

    assert loop.run_until_complete(script()) == [1_000]
    loop.close()


def test_a_thread_is_waited_for_while_time_stands_still() -> None:
    async def script() -> list[Any]:
        loop = asyncio.get_running_loop()
        sleeper = asyncio.create_task(asyncio.sleep(3_600))
        answer = await asyncio.to_thread(lambda: time.sleep(0.05) or "from the thread")  # type: ignore[func-returns-value]
        return [answer, loop.time(), await sleeper, loop.time()]

    assert run_virtually(script()) == ["from the thread", 0.0, None, 3_600.0]


def test_a_thread_of_somebody_else_has_a_moment() -> None:
    async def script() -> list[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        threading.Timer(0.05, lambda: loop.call_soon_threadsafe(future.set_result, "told")).start()
        return [await asyncio.wait_for(future, 10), loop.time()]

    assert run_virtually(script()) == ["told", 0.0]


def test_a_thread_is_heard_that_ends_while_the_loop_looks() -> None:
    class Late(VirtualLoop):
        future: asyncio.Future[str] | None = None

        @property
        def may_be_told_something(self) -> bool:
            if self.future is not None and not self.future.done():
                thread = threading.Thread(target=self.call_soon_threadsafe, args=(self.future.set_result, "told"))
                thread.start()
                thread.join()
            return super().may_be_told_something

    async def script() -> list[Any]:
        loop.future = loop.create_future()
        return [await asyncio.wait_for(loop.future, 10), loop.time()]

    loop = Late()
    assert run_on(loop, script()) == ["told", 0.0]


def test_threads_may_take_their_time_to_end() -> None:
    class Slow(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            time.sleep(1.5 * PATIENCE_S)
            super().shutdown(wait, cancel_futures=cancel_futures)

    loop = VirtualLoop()
    loop.set_default_executor(Slow())
    assert run_on(loop, asyncio.to_thread("x".upper)) == "X"


def test_a_real_server_is_waited_for() -> None:
    async def script() -> list[Any]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            await asyncio.to_thread(time.sleep, 0.05)
            writer.write(b"pong\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"ping\n")
        said = await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        server.close()
        return [said, asyncio.get_running_loop().time()]

    assert run_virtually(script()) == [b"pong\n", 0.0]


def test_what_will_never_happen_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="what is awaited will never happen"):
        run_virtually(asyncio.Event().wait())


def test_a_step_may_use_threads_in_virtual_time() -> None:
    @step
    async def shout(context: Context, word: str) -> Any:
        return await asyncio.to_thread(word.upper)

    @workflow
    async def flow(context: Context) -> Any:
        await asyncio.sleep(86_400)
        return await asyncio.wait_for(shout(context, "x"), 1)

    run = Local().run(flow)
    assert (run.output, run.elapsed) == ("X", timedelta(days=1))
