"""Ctrl-C on Python 3.10, whose `asyncio.run` would cancel the clean-up together with everything else."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While this lasts, Ctrl-C cancels the current task, as it does the main one from Python 3.11 on.

    # Raises
    KeyboardInterrupt in the place of that cancellation.
    """
    task = asyncio.current_task()
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if sys.version_info >= (3, 11) or not is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    interrupts: list[None] = []

    def interrupt() -> None:
        interrupts.append(None)
        if task is not None:
            task.cancel()

    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if interrupts:
            raise KeyboardInterrupt from None
        raise
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
