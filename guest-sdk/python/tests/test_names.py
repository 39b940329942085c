"""Which names the package shows, and that programs of the original Cerebelum still find theirs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cerebelum
import cerebelum.compat
import cerebelum.timeline

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "guest-sdk/python/README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("python", "python-timeline", "python-testing")),
]
PROGRAMS = [
    *PAGES,
    *ROOT.glob("examples/*/*.py"),
    *ROOT.glob("engine/cli/src/project/template/python/*.py"),
]


def imported(file: Path, module: str) -> set[str]:
    """What a file imports from a module."""
    lists = re.findall(rf"^ *from {re.escape(module)} import (\([^)]*\)|[^\n]*)", file.read_text("utf-8"), re.MULTILINE)
    return {name for names in lists for name in re.findall(r"\w+", names)}


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: str(file.relative_to(ROOT)))
def test_guides_and_examples_import_what_the_package_shows(file: Path) -> None:
    assert imported(file, "cerebelum") <= set(cerebelum.__all__)
    assert imported(file, "cerebelum.timeline") <= set(cerebelum.timeline.__all__)
    assert not imported(file, "cerebelum.compat")


def test_every_name_of_the_package_stands_in_a_guide() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert [name for name in cerebelum.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_package_finds_every_name_of_compat() -> None:
    names = {*cerebelum.compat.__all__, *cerebelum.compat._CLIENT}
    assert names == cerebelum._COMPAT
    assert not names & set(cerebelum.__all__)
    for name in names:
        assert getattr(cerebelum, name) is getattr(cerebelum.compat, name)
        assert getattr(importlib.import_module("cerebelum"), name) is not None


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    for module in (cerebelum, cerebelum.compat):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing


def test_a_plain_program_loads_neither_timelines_nor_the_client() -> None:
    program = (
        "import sys; sys.modules['grpc'] = None; from cerebelum import *; from cerebelum.compat import *; "
        "print([name for name in sys.modules if name.startswith('cerebelum.client')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    program = "import sys, cerebelum; print('cerebelum.timeline' in sys.modules, 'cerebelum.compat' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
