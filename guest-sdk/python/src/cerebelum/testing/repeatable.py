"""Chance and the clock of Python's own modules while a guest runs: the same on every rerun, as on an engine."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def repeatable(seed: bytes, now_ms: Callable[[], int]) -> Iterator[None]:
    """While this lasts, `random`, `uuid4`, `secrets` and `time.time` say what they said the last time.

    `datetime.now()` is out of reach: workflows use `context.now()`.
    """
    chance = random.Random(seed)
    replaced: list[tuple[Any, str, Any]] = [
        (os, "urandom", chance.randbytes),
        (random, "_urandom", chance.randbytes),
        (time, "time", lambda: now_ms() / 1_000),
        (time, "time_ns", lambda: now_ms() * 1_000_000),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    state = random.getstate()
    random.seed(seed)
    for module, name, instead in replaced:
        setattr(module, name, instead)
    try:
        yield
    finally:
        for module, name, own in before:
            setattr(module, name, own)
        random.setstate(state)
