"""The table of the original documents' snippets: what each shows, whether it runs as it stands, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["verbatim", "changed", "compared", "no program"]


@dataclass(frozen=True)
class Entry:
    """One snippet."""

    name: str
    digest: str
    shows: str
    verdict: Verdict = "verbatim"
    # What is changed and why, or why it is no program.
    why: str = ""
    # Texts and what stands in their place.
    changes: tuple[tuple[str, str], ...] = ()

    def changed(self, text: str) -> str:
        """The text as it runs.

        # Raises
        ValueError when a change finds no place, or several.
        """
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} stands {text.count(old)} times in the snippet, not once")
            text = text.replace(old, new)
        return text


DOCUMENTS = (
    "summary of what worked",
    "state of the SDK and the engine",
    "answer about polling and waiting",
    "local against distributed mode",
    "answer about pausing a workflow",
)

INSIDE = "a sketch of the inside of an earlier worker process; steps run in components on the engine now"

TABLE = (
    Entry("S0.1", "3bdecb685b47", "`poll`, `retry`, `sleep`, `ProgressReporter`, one after the other"),
    Entry("S0.2", "459cf1556cdf", "two steps in a timeline, executed in this process"),
    Entry("S0.3", "d5d0251c5d07", "a droplet: create, wait for its address, connect"),
    Entry("S0.4", "33619111181a", "`Worker` and an executor, on an engine"),
    Entry("S0.5", "492bec6e0f57", "imports"),
    Entry("S0.6", "449ae9302d07", "two remarks", "no program", "nothing but comments"),
    Entry(
        "S1.1",
        "323770c915d0",
        'fetch a user, send a mail; results in `{"ok": …}` envelopes',
        "changed",
        '`fetch_user["ok"]` is `fetch_user`: an envelope is opened where the step ends, and who takes its result gets '
        "what was inside",
        (('user = fetch_user["ok"]', "user = fetch_user"),),
    ),
    Entry("S1.2", "925a3ae54395", "how `sleep` was to be written", "no program", INSIDE),
    Entry("S1.3", "c10368bde717", "how a worker was to run a step", "no program", INSIDE),
    Entry("S1.4", "ab028a73c8f7", "deploy, wait for a day, verify, on an engine"),
    Entry("S2.1", "8d1f7a4e4258", "imports"),
    Entry("S2.2", "348c5b04ba18", "a droplet, and `poll` for its address"),
    Entry(
        "S2.3",
        "7eac5139d2e2",
        "`retry` of a connection with growing delays",
        "changed",
        'the step returns `{"connected": True}` instead of the connection: what a step returns is recorded, so it is '
        "JSON, and an open connection is not",
        (('return {"connection": connection}', 'return {"connected": connection is not None}'),),
    ),
    Entry("S2.4", "58f758fad279", "`ProgressReporter` in a deployment"),
    Entry("S2.5", "e7a54a5aeb7a", "two mails with a day between them, in one step"),
    Entry("S2.6", "de3d1cfbba87", "before: polling by hand, with `time.sleep`"),
    Entry("S2.7", "621cab13f42c", "after: `poll` in a step of its own"),
    Entry("S2.8", "3bef65724220", "waiting for a certificate"),
    Entry("S2.9", "05c68e335545", "waiting for a database"),
    Entry("S2.10", "a12950f01e73", "waiting for a build that succeeds or fails"),
    Entry("S2.11", "f8cab3d98864", "reference: `poll`", "compared", "every parameter has this name and default"),
    Entry("S2.12", "74ce4ae58416", "reference: `retry`", "compared", "every parameter has this name and default"),
    Entry("S2.13", "7a07a7b160f8", "reference: `sleep`", "compared", "every parameter has this name and default"),
    Entry("S2.14", "423dfd9481c0", "`retry` of one kind of error"),
    Entry("S2.15", "b2c8bea8838d", "`ProgressReporter` instead of `print`"),
    Entry("S2.16", "d2f782a64633", "fifteen minutes of sleep"),
    Entry("S2.17", "cca234676f29", "good habits: a step of its own for polling"),
    Entry("S2.18", "11adcc5202f3", "good habits: a precise condition"),
    Entry(
        "S2.19",
        "856772c1192b",
        "good habits: attempts and a timeout",
        "changed",
        "`check_fn=...` names a function, and the call is awaited: the snippet leaves both out",
        (("\npoll(", "\nawait poll("), ("check_fn=...", "check_fn=look")),
    ),
    Entry("S2.20", "8a14b6536c52", "good habits: a callback that says something"),
    Entry("S3.1", "90cfd3ea6091", "two steps in this process"),
    Entry("S3.2", "fdb171427add", "the same two steps on an engine"),
    Entry(
        "S3.3",
        "dfc0cff982ab",
        "`DistributedExecutor` by the name of a workflow",
        "changed",
        "the engine's address: the one under test has another port. On the default port it runs as it stands",
        (('"localhost:9090"', "ENGINE"),),
    ),
    Entry("S3.4", "c9caa6557166", "the loop of a worker", "no program", INSIDE),
    Entry("S3.5", "a0d7a70bb95a", "a step that waits for a day"),
    Entry("S4.1", "8aad82eb710e", "a droplet in four steps that poll by hand with `asyncio.sleep`"),
    Entry(
        "S4.2",
        "e3d3eef16ef0",
        "before and after, in outline",
        "no program",
        "an outline with `...` for parameters; S2.6 and S2.7 are the same as programs",
    ),
    Entry("S4.3", "81aa8f1355dc", "the decorators `@sleep`, `@poll` and `@approval`"),
)
