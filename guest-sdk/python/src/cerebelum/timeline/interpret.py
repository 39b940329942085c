"""Runs a timeline with its rules, on top of ordinary step calls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, TypeAlias

from .. import _values
from .._host import current
from ..context import Context
from ..errors import DependencyError, Failure, SerializationError, StepError
from ..polls import settled
from ..steps import AnyStep, call_by_text
from .actions import BackTo, End, Fail, Jump, RetryAction
from .checks import INPUTS
from .compose import Item, ParallelStepGroup, StepComposition
from .rules import Definition, Outcome, Target
from .state import State

BACK_JUMPS_MAX = 1_000

# The results of a line of steps that does not simply end.
Turn: TypeAlias = Jump | End


async def interpret(definition: Definition, context: Context) -> Any:
    """Runs the timeline and yields the value of the last step that succeeded; of a group, name to value.

    # Raises
    StepError when a step fails and no rule takes over, DependencyError when a step needs a result that is not there,
    Failure for `fail()` and for too many repetitions, and what a condition raises.
    """
    run = _Run(definition, context.inputs)
    state = State()
    if definition.timeline is not None:
        await run.line(definition.timeline, state)
    return state.output()


class _Run:
    """One execution of a definition. All of its decisions follow from the answers of steps."""

    def __init__(self, definition: Definition, inputs: Any) -> None:
        self.definition = definition
        self.inputs = inputs
        self.sides = definition.sides()
        self.back_jumps = 0

    async def line(self, line: StepComposition, state: State, is_timeline: bool = True, first: str = "") -> Turn | None:
        """Runs a line to its end; answers with the turn that leads out of it, if one does.

        `first` is the step that a jump asked for: it runs although something else decides about it.
        """
        # The state on arrival at each item, for jumps back.
        arrivals: dict[int, State] = {}
        at = 0
        while at < len(line.items):
            arrivals[at] = state.copy()
            turn = await self.item(line.items[at], state, is_timeline, first)
            first = ""
            if turn is None:
                at += 1
                continue
            there = None if isinstance(turn, End) else line.entry_of(turn.step)
            if there is None or isinstance(turn, End):
                return turn
            if isinstance(turn, BackTo):
                self.count_back_jump()
                state.restore(arrivals[there])
            else:
                arrivals.update((passed, state.copy()) for passed in range(at + 1, there))
            at, first = there, turn.step
        return None

    async def item(self, item: Item, state: State, is_timeline: bool, first: str) -> Turn | None:
        """Runs a step or a group, unless something else decides about the step."""
        if isinstance(item, ParallelStepGroup):
            await self.group(item, state, is_timeline, first)
            return None
        if is_timeline and item.name != first and (item.name in self.sides or item.name in state.moved):
            return None
        return await self.step(item, state)

    async def group(self, group: ParallelStepGroup, state: State, is_timeline: bool, first: str) -> None:
        """Runs the branches at the same time and waits for all of them; then the first failure counts, if any."""
        states = [state.copy() for _ in group.branches]
        ends = await asyncio.gather(
            *(
                self.line(branch, forked, is_timeline, first)
                for branch, forked in zip(group.branches, states, strict=True)
            ),
            return_exceptions=True,
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end
            if end is not None:
                raise AssertionError(f"{end} leaves a parallel group, which validation refuses")
        state.join(states)

    async def step(self, step: AnyStep, state: State) -> Turn | None:
        """Runs a step and then what its rules say: first its diverge, then, if it has a value, its branch."""
        arrived = state.copy()
        repetitions: Counter[int] = Counter()
        while True:
            state.restore(arrived)
            outcome = await self.call(step, state)
            for decide in (self.diverge, self.branch):
                target = await decide(step, outcome)
                if isinstance(target, RetryAction):
                    repetitions[id(target)] += 1
                    await _wait(step, outcome, target, repetitions[id(target)])
                    break
                turn = await self.follow(target, step, outcome, state)
                if turn is not None:
                    return turn
            else:
                return None

    async def call(self, step: AnyStep, state: State) -> Outcome:
        """Runs a step as the ordinary durable call that it is."""
        input = self.input_of(step, state)
        try:
            text = await call_by_text(step, step.name, input, step.options)
        except StepError as error:
            state.fail(step.name)
            return Outcome(error=error)
        value = json.loads(text)
        state.succeed(step.name, value)
        return Outcome(value)

    def input_of(self, step: AnyStep, state: State) -> str:
        """A step's input: the workflow's inputs and the results of other steps, by the names of its parameters."""
        arguments: dict[str, Any] = {}
        for parameter in step.signature.parameters:
            name = parameter.name
            if name == INPUTS:
                arguments[name] = self.inputs
            elif name in state.results:
                arguments[name] = state.results[name]
            elif parameter.required:
                reason = "it failed, and a rule took over" if name in state.failed else "it did not run"
                raise DependencyError(step.name, name, reason)
        return step.signature.encode((), arguments, f"the input of step '{step.name}'")

    async def diverge(self, step: AnyStep, outcome: Outcome) -> Target | None:
        """Where the diverge of a step leads; an error without a match ends the execution."""
        rule = self.definition.diverges.get(step.name)
        for line in rule.patterns if rule is not None else ():
            if line.matches(outcome):
                return line.target
        if outcome.error is not None:
            raise outcome.error
        return None

    async def branch(self, step: AnyStep, outcome: Outcome) -> Target | None:
        """Where the branch of a step leads."""
        rule = self.definition.branches.get(step.name)
        if rule is None or outcome.error is not None:
            return None
        holds = await settled(rule.condition(_as_hinted(step, outcome.value)))
        return rule.when_true if holds else rule.when_false

    async def follow(self, target: Target | None, step: AnyStep, outcome: Outcome, state: State) -> Turn | None:
        """Runs steps, or answers with the turn that a rule takes."""
        if isinstance(target, StepComposition):
            state.moved.update(there.name for there in target.steps())
            return await self.line(target, state, is_timeline=False)
        if isinstance(target, Fail):
            raise _failure(target, step, outcome)
        if target is None or isinstance(target, RetryAction):
            return None
        return target

    def count_back_jump(self) -> None:
        """One more jump back."""
        self.back_jumps += 1
        if self.back_jumps > BACK_JUMPS_MAX:
            message = f"Exceeded maximum iterations ({BACK_JUMPS_MAX})"
            raise Failure(message, kind="too-many-iterations", retryable=False)


def _as_hinted(step: AnyStep, value: Any) -> Any:
    """A value as the step's return hint says, for conditions."""
    try:
        return _values.convert(value, step.signature.returns, f"the output of step '{step.name}'")
    except SerializationError:
        # The hint is about the envelope that the step returned, not about what was in it.
        return value


async def _wait(step: AnyStep, outcome: Outcome, retry: RetryAction, repetition: int) -> None:
    if repetition <= retry.times:
        delay_ms = retry.delay_before(repetition)
        if delay_ms:
            await current().sleep(delay_ms)
        return
    if outcome.error is not None:
        raise outcome.error
    message = f"Step '{step.name}' still answered {json.dumps(outcome.value)} after {retry.times} repetitions"
    raise Failure(message, kind="retry-exhausted", details={"step": step.name}, retryable=False)


def _failure(action: Fail, step: AnyStep, outcome: Outcome) -> Failure:
    reason = action.reason
    if reason is None:
        reason = outcome.value if outcome.error is None else outcome.error.error
    message = reason if isinstance(reason, str) else json.dumps(reason, default=str)
    return Failure(message, details={"step": step.name, "error": reason}, retryable=False)
