"""Polls in place and polls of a check step, by the table of cases that every implementation follows."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cerebelum import Context, PollTimeout, not_yet, poll, ready, step, workflow
from cerebelum.testing import Local

TABLE = Path(__file__).resolve().parents[4] / "wit" / "polls.json"
CASES = json.loads(TABLE.read_text(encoding="utf-8"))["cases"]


def now_ms(context: Context) -> int:
    return round(context.now().timestamp() * 1_000)


async def look(context: Context, case: dict[str, Any], began_ms: int) -> bool:
    """Whether the condition holds after this check."""
    await asyncio.sleep(case["check_ms"] / 1_000)
    return bool(now_ms(context) - began_ms >= case["true_after_ms"])


async def polled(context: Context, case: dict[str, Any], *check: Any, **options: Any) -> Any:
    """How the poll ended."""
    options |= {"interval": case["interval_ms"], "max_attempts": case["max_attempts"], "timeout": case["timeout_ms"]}
    try:
        await poll(*check, **options)
    except PollTimeout as late:
        return [late.kind, late.message]
    return [None, None]


@workflow
async def in_place(context: Context, case: dict[str, Any]) -> Any:
    began_ms, checks = now_ms(context), []
    ended = await polled(
        context, case, lambda: look(context, case, began_ms), on_attempt=lambda number, _: checks.append(number)
    )
    return [*ended, max(checks)]


@step
async def look_once(context: Context, case: dict[str, Any], began_ms: int) -> Any:
    return ready() if await look(context, case, began_ms) else not_yet()


@workflow
async def driven(context: Context, case: dict[str, Any]) -> Any:
    return await polled(context, case, look_once, case, now_ms(context))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_both_forms_of_a_poll_follow_the_table(case: dict[str, Any], hibernating: bool) -> None:
    local = Local()
    local = local.hibernating() if hibernating else local
    placed = local.run(in_place, case)
    assert placed.output == [case["failure"], case["message"], case["checks"]]
    asked = local.run(driven, case)
    assert asked.output == [case["failure"], case["message"]]
    assert len(asked.calls(look_once)) == case["checks"]
    assert placed.elapsed == asked.elapsed == timedelta(milliseconds=case["ends_at_ms"])
