"""The Python block of the repository's README runs, and its month passes on the virtual clock."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cerebelum.testing import Local, approve, days, hours, reject, reply

PAGE = Path(__file__).resolve().parents[3] / "README.md"
QUESTION = "A discount for bob@example.com?"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The block as a module."""
    [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(source, str(PAGE), "exec", dont_inherit=True), module.__dict__)
    return module


def test_a_month_and_a_yes_lie_between_the_mails(program: ModuleType) -> None:
    mails = []
    local = Local().on_http(lambda request: mails.append(request.url) or reply(202, ""))
    run = local.on_approval(QUESTION, approve(None).by("ada").after(hours(5))).run(program.trial, "bob@example.com")
    assert (run.output, run.elapsed) == ("ada agreed", days(30) + hours(5))
    assert mails == ["https://mail.example.com/welcome", "https://mail.example.com/offer"]


def test_a_no_sends_no_second_mail(program: ModuleType) -> None:
    local = Local().replace(program.welcome, None).on_approval(QUESTION, reject("not now"))
    run = local.run(program.trial, "bob@example.com")
    assert run.failure.kind == "rejected"
