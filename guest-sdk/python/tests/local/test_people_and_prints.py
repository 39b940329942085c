"""What local mode shows, and what it asks people through a callback."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from cerebelum import (
    ApprovalRejected,
    ApprovalTimeout,
    Approved,
    Context,
    ExecutionError,
    Failure,
    approval,
    step,
    workflow,
)
from cerebelum.compat import ProgressReporter, wait_for_approval

SRC = Path(__file__).parents[2] / "src"


def execute(flow: Any, inputs: Any = None, **options: Any) -> Any:
    return asyncio.run(flow.execute(inputs, **options))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, [None, "local", None]),
        ({"limit": 5}, [{"limit": 5}, "local", None]),
        (Approved({"limit": 7}, "ada", "fine"), [{"limit": 7}, "ada", "fine"]),
    ],
)
def test_a_callback_answers_approvals(answer: Any, expected: Any, is_async: bool) -> None:
    asked: list[Any] = []

    @step
    async def ask(context: Context) -> Any:
        given = await approval("Raise the limit?", data={"now": 3}, kind="limit")
        return [given.data, given.by, given.comment]

    @workflow
    async def flow(context: Context) -> Any:
        return await ask(context)

    def approve(question: Any) -> Any:
        asked.append((question.title, question.kind, question.data, question.workflow, question.step))
        return answer

    async def approve_async(question: Any) -> Any:
        await asyncio.sleep(0)
        return approve(question)

    assert execute(flow, approve=approve_async if is_async else approve).output == expected
    assert asked == [("Raise the limit?", "limit", {"now": 3}, "flow", "ask")]


@pytest.mark.parametrize("schema", [None, {"type": "object"}])
def test_a_question_names_its_approvers_in_the_schema_of_the_answer(schema: Any) -> None:
    asked: list[Any] = []

    @step
    @approval(approvers=["role:admin"])
    async def decorated(context: Context) -> None: ...

    @workflow
    async def flow(context: Context) -> None:
        await approval("Raise the limit?", schema=schema, approvers=("role:operator", "ada@example.com"))
        await wait_for_approval(approvers=["bob"])
        await decorated(context)

    def approve(question: Any) -> bool:
        asked.append(question.schema)
        return True

    assert execute(flow, approve=approve).status == "completed"
    keyword = "x-cerebelum-approvers"
    first = (schema or {}) | {keyword: ["role:operator", "ada@example.com"]}
    assert asked == [first, {keyword: ["bob"]}, {keyword: ["role:admin"]}]


@pytest.mark.parametrize("wrong", [[], [""], ["a\n"], ["a" * 257], ["é" * 129], ["role:boss"], ["a"] * 33, [1]])
def test_a_malformed_list_of_approvers_fails_the_call(wrong: Any) -> None:
    @workflow
    async def flow(context: Context) -> str:
        try:
            await approval("Raise the limit?", approvers=wrong)
        except Failure as failure:
            return f"{failure.kind} {failure.retryable} {failure}"
        return "asked"

    output = execute(flow, approve=lambda question: True).output
    assert output.startswith("invalid-argument False")
    assert "approver" in output


def test_one_approver_is_a_list_of_one() -> None:
    with pytest.raises(TypeError, match=r"approvers=\['ada'\]"):
        asyncio.run(approval("Raise the limit?", approvers="ada"))


def test_no_timeout_and_no_answer_are_told_apart() -> None:
    @workflow
    async def flow(context: Context, title: str) -> Any:
        try:
            await approval(title, timeout=60)
        except ApprovalRejected as no:
            return ["no", no.kind, no.message]
        except ApprovalTimeout as late:
            return ["late", late.kind]

    def approve(question: Any) -> Any:
        if question.title == "Raise?":
            raise ApprovalRejected("over budget")
        if question.title == "Slow?":
            time.sleep(0.3)
        return False

    assert execute(flow, "Raise?", approve=approve).output == ["no", "rejected", "rejected by local: over budget"]
    assert execute(flow, "Return?", approve=approve).output[1:] == ["rejected", "rejected by local: no reason given"]
    assert execute(flow, "Slow?", approve=approve).output == ["late", "approval-timeout"]


def test_a_callback_that_forgets_to_answer_is_no_yes() -> None:
    @workflow
    async def flow(context: Context) -> None:
        await approval("Go?")

    with pytest.raises(ExecutionError, match=r"approve\(\) returned None"):
        execute(flow, approve=lambda question: None)


def test_progress_is_a_bar_and_log_lines_go_to_stderr(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import asyncio
            from cerebelum import step, workflow
            from cerebelum.compat import ProgressReporter

            @step
            async def deploy(context):
                ProgressReporter(context).update(33, "Copying")
                context.log("copied")

            @workflow
            async def flow(context):
                await deploy(context)
                context.update_progress(100, "Done")

            asyncio.run(flow.execute())
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert ended.stdout == f"  [deploy] {'█' * 6}{'░' * 14} 33% - Copying\n  [flow] {'█' * 20} 100% - Done\n"
    assert ended.stderr == "[deploy] copied\n"


def test_log_lines_follow_the_programs_own_logging(caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def flow(context: Context) -> None:
        context.log("odd", level="warn")
        ProgressReporter(context).update(1)

    with caplog.at_level(logging.INFO, logger="cerebelum"):
        execute(flow)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", "[flow] odd")]
