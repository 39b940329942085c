"""Tests of workflows without an engine and without waiting: local mode on a virtual clock.

from cerebelum.testing import Local, approve, days

run = Local().on_approval("Go live?", approve({"by": "ada"}).after(days(29))).run(publish, {"page": 7})
assert run.output == "published"
assert run.elapsed == days(29)
"""

from .._host import HttpRequest, HttpResponse
from .._local.people import Asked
from .clock import VirtualLoop, run_virtually
from .local import Local
from .run import LogLine, Progress, Run, StepCall
from .script import Decision, approve, days, hours, minutes, reject, reply, seconds, silence

__all__ = [
    "Asked",
    "Decision",
    "HttpRequest",
    "HttpResponse",
    "Local",
    "LogLine",
    "Progress",
    "Run",
    "StepCall",
    "VirtualLoop",
    "approve",
    "days",
    "hours",
    "minutes",
    "reject",
    "reply",
    "run_virtually",
    "seconds",
    "silence",
]
