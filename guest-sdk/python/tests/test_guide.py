"""Every Python block of docs/python.md runs, in order and as one program, and what it defines does what it says."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from cerebelum import ExecutionError
from cerebelum._host import HttpRequest, HttpResponse
from cerebelum._local.world import World
from cerebelum.results import ExecutionResult
from cerebelum.testing import run_virtually

PACKAGE = Path(__file__).resolve().parents[1]
PAGE = PACKAGE.parents[1] / "docs" / "python.md"
README = PACKAGE / "README.md"
IP = "203.0.113.7"
ORDER = {"base_url": "http://cloud", "name": "web-1"}
DAY_S = timedelta(days=1).total_seconds()


class Cloud:
    """The servers that the guide's steps talk to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        # How many looks a droplet's address takes, how often SSH refuses, how often mail is not taken.
        self.looks, self.refusals, self.lost_mails = 3, 2, 0

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        """Status and body."""
        self.asked.append(f"{method} {path}")
        _, first, *rest = path.split("/")
        if first == "droplets":
            return 200, {"id": 7, "ip": None if method == "POST" or self._later("looks") else IP}
        if first == "ssh":
            return (401, "") if rest == ["wrong"] else (503, "") if self._later("refusals") else (200, "welcome")
        if first == "mails":
            return (500, "") if self._later("lost_mails") else (201, "")
        return 201, ""

    def _later(self, what: str) -> bool:
        left = getattr(self, what)
        setattr(self, what, left - 1)
        return bool(left > 0)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Takes every request of local mode."""
    cloud = Cloud()

    async def fetch(_: World, request: HttpRequest, idempotency_key: str) -> HttpResponse:
        status, body = cloud.answer(request.method, urlsplit(request.url).path)
        return HttpResponse(status, [], (body if isinstance(body, str) else json.dumps(body)).encode())

    monkeypatch.setattr(World, "fetch", fetch)
    return cloud


def blocks(page: Path = PAGE) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the line at which it begins."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```python\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(2)), textwrap.dedent(block[2])) for block in found]


def timed(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, Any]:
    """What it yields, and how many seconds that took on the virtual clock."""

    async def measured() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        return await coroutine, loop.time() - began_s

    return run_virtually(measured())


async def run(block: str, line: int, guide: ModuleType) -> None:
    """Runs a block as part of the program; its lines are those of the page."""
    tree = ast.increment_lineno(ast.parse(block), line)
    code = compile(tree, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = eval(code, guide.__dict__)
    if asyncio.iscoroutine(running):
        await running


@pytest.fixture(scope="module")
def guide() -> Iterator[ModuleType]:
    """The page as a program."""
    program = sys.modules["guide"] = ModuleType("guide")
    assert len(blocks()) > 20
    for line, block in blocks():
        timed(run(block, line, program))
    yield program
    del sys.modules["guide"]


def executed(workflow: Any, inputs: Any = None, **options: Any) -> tuple[ExecutionResult, Any]:
    """How it ended, and after how many seconds."""
    result, seconds = timed(workflow.execute(inputs, **options))
    assert isinstance(result, ExecutionResult)
    return result, seconds


def alone(guide: ModuleType, step: Callable[..., Any], *inputs: Any) -> tuple[Any, Any]:
    """What a step returns, and after how many seconds."""

    @guide.workflow(name="alone")  # type: ignore[untyped-decorator]
    async def workflow(context: Any) -> Any:
        return await step(context, *inputs)

    result, seconds = executed(workflow)
    return result.output, seconds


def test_http_and_polls(guide: ModuleType, cloud: Cloud) -> None:
    result, seconds = executed(guide.addressing, ORDER)
    assert (result.output, seconds) == (IP, pytest.approx(15))
    assert cloud.asked == ["POST /droplets", *["GET /droplets/7"] * 4]
    for step in (guide.wait_for_ip, guide.droplet_with_ip):
        cloud.looks = 3
        output, seconds = alone(guide, step, ORDER["base_url"], 7)
        assert (output == IP or output["ip"] == IP, seconds) == (True, pytest.approx(15))
    cloud.looks = 0
    assert alone(guide, guide.look_up, ORDER["base_url"], 7)[0] == {"id": 7, "ip": IP}


def test_failures_and_retries(guide: ModuleType, cloud: Cloud) -> None:
    result, seconds = executed(guide.connecting, {"base_url": "http://cloud", "ip": IP})
    assert result.output == "welcome"
    # 1 s and 2 s, the defaults of an override, with 20 % of chance.
    assert seconds == pytest.approx(3, abs=1)
    assert executed(guide.connecting, {"base_url": "http://cloud", "ip": "wrong"})[0].output == (
        "wrong: the key was refused"
    )
    cloud.lost_mails = 2
    output, seconds = alone(guide, guide.announce, "http://cloud", "hello")
    assert (output, seconds) == (201, pytest.approx(15))


def test_sleeps(guide: ModuleType, cloud: Cloud) -> None:
    assert alone(guide, guide.remind, "http://cloud") == (2, pytest.approx(DAY_S))
    assert cloud.asked == ["POST /mails"] * 2
    assert alone(guide, guide.settle, guide.Order("http://cloud", "web-1")) == ("web-1", pytest.approx(60))
    assert executed(guide.racing, "http://cloud")[1] == pytest.approx(3600)
    assert executed(guide.racing, "http://cloud")[0].output == "no patience"


def test_asyncio_children_and_the_rest(guide: ModuleType, cloud: Cloud) -> None:
    assert executed(guide.greeting_many, ["a", "b"])[0].output == ["Hello, a!", "Hello, b!"]
    output = executed(guide.family, "Ada", execution_id="f")[0].output
    assert output == ["Hello, Ada!", "f-friend"]
    assert executed(guide.telling)[0].status == "completed"
    with pytest.raises(ExecutionError, match="shop/price_of"):
        executed(guide.neighbours, "Ada")


def test_a_cancelled_rental_is_given_back(guide: ModuleType, cloud: Cloud) -> None:
    async def cancel() -> None:
        renting = asyncio.ensure_future(guide.renting.execute(ORDER))
        await asyncio.sleep(3 * DAY_S)
        renting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await renting

    assert timed(cancel())[1] == pytest.approx(3 * DAY_S)
    assert cloud.asked == ["POST /droplets", "POST /notes/given-back"]


def test_the_habits_before_and_after(guide: ModuleType, cloud: Cloud) -> None:
    order = guide.Order("http://cloud", "web-1")
    assert alone(guide, guide.create_and_wait, order) == (IP, pytest.approx(15))
    cloud.looks, cloud.refusals = 3, 0
    assert executed(guide.deploying, ORDER)[0].output == "welcome"


def test_the_tests_of_the_page(guide: ModuleType) -> None:
    tests = [name for name in vars(guide) if name.startswith("test_")]
    assert tests
    for name in tests:
        getattr(guide, name)()


def test_the_program_of_the_readme(cloud: Cloud) -> None:
    program = ModuleType("readme")
    [(line, block)] = blocks(README)
    timed(run(block, line, program))
    result, seconds = executed(program.reminders, "http://mail/mails")
    assert (result.output, seconds) == ("reminded", pytest.approx(DAY_S))
    assert cloud.asked == ["POST /mails"] * 2


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^## (.*)$", text, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert not file or (page.parent / file).is_file(), target
        assert file or anchor in anchors, target
