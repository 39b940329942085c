"""How steps and polls of check steps run: attempts, delays between them, deadlines, rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _values
from .._host import PollPolicy, RetryPolicy, StepOptions
from ..errors import Failure
from ..polls import Checks
from . import limits
from .scopes import Body, run_scope

if TYPE_CHECKING:
    from .host import LocalHost

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """The step or workflow behind a name."""

    name: str
    body: Body
    options: StepOptions = field(default_factory=StepOptions)
    # How long a workflow's clean-up may take after a cancel; None for no limit.
    cancel_grace_ms: int | None = None


@dataclass(frozen=True)
class Bounds:
    """How often a step is tried, and for how long."""

    retry: RetryPolicy
    timeout_ms: int | None
    deadline_ms: int | None

    @classmethod
    def of(cls, asked: StepOptions, declared: StepOptions) -> Bounds:
        """What the call says, and what it leaves out as the step declares it.

        # Raises
        Failure of kind `invalid-argument`.
        """
        timeout_ms = declared.timeout_ms if asked.timeout_ms is None else asked.timeout_ms
        deadline_ms = declared.deadline_ms if asked.deadline_ms is None else asked.deadline_ms
        limits.wait_ms(timeout_ms or 0, "a timeout")
        limits.wait_ms(deadline_ms or 0, "a deadline")
        return cls(asked.retry or declared.retry or RetryPolicy(), timeout_ms, deadline_ms)


@dataclass
class StepRun:
    """One call of a step, from its first attempt to its end. `input` and `output` are JSON text."""

    step: str
    execution_id: str
    input: str
    began_ms: int
    attempts: int = 0
    output: str | None = None
    failure: Failure | None = None
    ended_ms: int | None = None


async def run_step(caller: LocalHost, path: str, target: Target, input: str, asked: StepOptions) -> str:
    """Runs a step to its end, retries included.

    # Raises
    Failure.
    """
    bounds = Bounds.of(asked, target.options)
    attempts = Attempts(caller, path, target, input, bounds)
    deadline_s = None if bounds.deadline_ms is None else bounds.deadline_ms / 1_000
    return await attempts.recorded(within(deadline_s, attempts.until(str)))


async def within(deadline_s: float | None, coroutine: Any) -> Any:
    """What the coroutine yields, if it does so in time.

    # Raises
    Failure of kind `deadline`, and what the coroutine raises.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait({task}, timeout=deadline_s)
        if not task.done():
            raise Failure("the step's deadline passed", kind="deadline", retryable=False)
        return task.result()
    finally:
        task.cancel()


class Attempts:
    """The attempts of one step call, or of one round of a poll."""

    def __init__(self, caller: LocalHost, path: str, target: Target, input: str, bounds: Bounds) -> None:
        self._caller = caller
        self._path = path
        self._target = target
        self._input = input
        self._bounds = bounds
        self._record = StepRun(target.name, caller.execution.id, input, caller.now_ms())

    async def recorded(self, running: Any) -> str:
        """What running it yields, noted in the world's records."""
        record = self._record
        self._caller.world.step_runs(record)
        try:
            record.output = output = str(await running)
        except Failure as failure:
            record.failure = failure
            self._caller.execution.failed_steps[failure.kind, failure.message] = record.step
            raise
        finally:
            record.ended_ms = self._caller.now_ms()
        return output

    async def until(self, read: Callable[[str], T]) -> T:
        """Attempts until one yields a valid output, or none is left.

        # Raises
        Failure of the last attempt.
        """
        world, attempt = self._caller.world, 1
        while True:
            self._record.attempts = attempt
            host = self._caller.child(self._path, self._target.name, attempt, self._bounds.timeout_ms)
            try:
                return read(await run_scope(host, self._target.body, self._input))
            except Failure as failure:
                delay_ms = limits.delay_after(self._bounds.retry, attempt, failure, world.chance())
                if delay_ms is None:
                    raise
            await asyncio.sleep(delay_ms / 1_000)
            attempt += 1


async def run_poll(caller: LocalHost, path: str, target: Target, input: str, policy: PollPolicy) -> str:
    """Runs a check step at every interval until it is ready.

    # Raises
    PollTimeout, or the Failure of a check whose attempts are used up.
    """
    limits.wait_ms(policy.interval_ms, "an interval")
    limits.wait_ms(policy.timeout_ms or 0, "a timeout")
    bounds = Bounds.of(target.options, target.options)
    checks = Checks(policy, caller.now_ms, lambda interval_ms: asyncio.sleep(interval_ms / 1_000))
    while True:
        attempts = Attempts(caller, f"{path}#{await checks.next()}", target, input, bounds)
        is_ready, value = await _round(attempts, target.name)
        if is_ready:
            return value


async def _round(attempts: Attempts, name: str) -> tuple[bool, str]:
    said: list[tuple[bool, str]] = []

    async def check() -> str:
        said.append(await attempts.until(lambda output: answer_of(name, output)))
        return said[0][1]

    await attempts.recorded(check())
    return said[0]


def answer_of(name: str, output: str) -> tuple[bool, str]:
    """The answer of a check step: whether it is ready, and the value.

    # Raises
    Failure of kind `invalid-output`.
    """
    said = _values.decode(output, Any, "the output")
    if isinstance(said, dict) and len(said) == 1:
        for word, is_ready in (("ready", True), ("not_yet", False)):
            if word in said:
                return is_ready, _values.encode(said[word], "what a check saw")
    hint = 'a check step answers {"ready": value} or {"not_yet": value}'
    raise Failure(f"{hint}, `{name}` said {output}", kind="invalid-output", retryable=False)
