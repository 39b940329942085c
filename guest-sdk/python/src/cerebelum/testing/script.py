"""The script of a test: replacements of steps, answers to approvals, and signals with their times."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from .. import _values
from .._envelope import opened
from .._host import Approval, HttpResponse, current
from .._local.people import Asked, approval_of, rejected
from .._signature import CONTEXT_NAMES, Signature
from ..context import Context
from ..durations import Duration, ms
from ..errors import Failure, SerializationError
from ..polls import settled


def days(count: float) -> timedelta:
    """So many days."""
    return timedelta(days=count)


def hours(count: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=count)


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)


def seconds(count: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=count)


@dataclass(frozen=True)
class Decision:
    """A person's decision about an approval, and its delay."""

    verdict: Literal["approve", "reject", "silence"]
    # The answer, or why not.
    said: Any = None
    after_ms: int = 0
    who: str = "test"
    note: str | None = None

    def after(self, wait: Duration) -> Decision:
        """Delays the decision by this long: a timedelta, text such as `"2d"`, or milliseconds."""
        return replace(self, after_ms=ms(wait, "a decision's delay"))

    def by(self, who: str) -> Decision:
        """Names the person who decides; `test` by default."""
        return replace(self, who=who)

    def comment(self, note: str) -> Decision:
        """Adds a comment."""
        return replace(self, note=note)

    def approval(self) -> Approval:
        """The yes.

        # Raises
        Failure of kind `rejected` when it is a no.
        """
        if self.verdict == "reject":
            raise rejected(self.said, self.who)
        return Approval(_values.encode(self.said, "an approval"), self.who, self.note)


def approve(answer: Any = None) -> Decision:
    """Says yes, with an answer."""
    return Decision("approve", answer)


def reject(reason: str = "no reason given") -> Decision:
    """Says no."""
    return Decision("reject", reason)


def silence() -> Decision:
    """Says nothing: the question times out, if it can."""
    return Decision("silence")


def decision_of(answer: Any) -> Decision:
    """What a test's function said about a question: a decision, or True, False or an answer as in `execute`."""
    if isinstance(answer, Decision):
        return answer
    if answer is False:
        return reject()
    approval = approval_of(answer, "test")
    return Decision("approve", json.loads(approval.data), who=approval.by, note=approval.comment)


def reply(status: int = 200, body: Any = b"", headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A server's answer. Bytes and text are sent as they are, everything else as JSON."""
    given = dict(headers or {})
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
        if not any(name.lower() == "content-type" for name in given):
            given["content-type"] = "application/json"
    return HttpResponse(status, list(given.items()), body)


@dataclass
class Failing:
    """The next attempts of a step fail."""

    # How many; None is all of them.
    left: int | None
    failure: Failure

    def strike(self) -> None:
        """One attempt.

        # Raises
        The failure, while there is some left.
        """
        if self.left is None:
            raise self.failure
        if self.left > 0:
            self.left -= 1
            raise self.failure


@dataclass
class Script:
    """The script as data."""

    # By sort and name: what stands in the place of a step or workflow.
    instead: dict[tuple[str, str], Any] = field(default_factory=dict)
    failing: dict[str, Failing] = field(default_factory=dict)
    # Title, kind (each None for any), and what is decided.
    approvals: list[tuple[str | None, str | None, Any]] = field(default_factory=list)
    # Milliseconds after the start, name, JSON text.
    signals: list[tuple[int, str, str]] = field(default_factory=list)
    http: Callable[..., Any] | None = None
    cancel_ms: int | None = None
    seed: int | None = None
    is_hibernating: bool = False

    def fresh(self) -> Script:
        """The same for another run: nothing of it is used up yet."""
        return replace(self, failing={name: copy.copy(failing) for name, failing in self.failing.items()})

    def answer_to(self, asked: Asked) -> Any:
        """What the test says about a question; what it said last counts. None when it says nothing."""
        for title, kind, answer in reversed(self.approvals):
            if title in (None, asked.title) and kind in (None, asked.kind):
                return answer
        return None


async def call_instead(instead: Any, signature: Signature | None, input: str, what: str) -> str:
    """Calls what stands in the place of a step or workflow, from JSON text to JSON text. What cannot be called is the
    output itself.

    # Raises
    Whatever it raises.
    """
    value = instead
    if callable(instead):
        try:
            given = json.loads(input) if signature is None else signature.decode(input, what)
        except SerializationError as error:
            raise Failure(str(error), kind="schema-mismatch", retryable=False) from None
        args, kwargs = arguments_for(instead, given, signature is not None)
        value = opened(await settled(instead(*args, **kwargs)))
    try:
        return _values.encode(value, f"the output of what stands in the place of {what}")
    except SerializationError as error:
        raise Failure(str(error), kind="invalid-output", retryable=False) from None


def arguments_for(instead: Callable[..., Any], given: Any, by_name: bool) -> tuple[list[Any], dict[str, Any]]:
    """How to call what stands in: with what it names, or else with everything in order; the context only if it asks."""
    try:
        parameters = list(inspect.signature(instead).parameters.values())
    except (TypeError, ValueError):
        # What it takes is not known: a builtin, a mock on Python 3.10.
        parameters = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
    args: list[Any] = []
    if parameters and parameters[0].name in CONTEXT_NAMES:
        only = next(iter(given.values()), None) if by_name and len(given) < 2 else given
        args.append(Context.of(current(), only))
        parameters = parameters[1:]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_rest = any(p.kind is p.VAR_KEYWORD for p in parameters) and not any(
        p.kind is p.VAR_POSITIONAL for p in parameters
    )
    if not by_name:
        if len(parameters) == 1 or not isinstance(given, dict):
            return [*args, *([given] if parameters else [])], {}
        by_name = True
    if isinstance(given, dict) and (set(named) <= set(given) and (named or takes_rest)):
        return args, {name: value for name, value in given.items() if takes_rest or name in named}
    return [*args, *(given.values() if parameters else ())], {}
