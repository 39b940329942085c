"""Which modules of the library a component takes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from cerebelum._bundle import Bundle, absolute
from cerebelum._code import Library


@pytest.mark.parametrize(
    ("name", "package", "whole"),
    [
        ("json.decoder", "x", "json.decoder"),
        (".part", "pack", "pack.part"),
        (".part", "pack.inner", "pack.inner.part"),
        ("..part", "pack.inner", "pack.part"),
        ("..part.deep", "pack.inner", "pack.part.deep"),
        ("..part", "pack", ""),
        (".part", "", ""),
    ],
)
def test_a_relative_import_is_resolved_in_its_package(name: str, package: str, whole: str) -> None:
    assert absolute(name, package) == whole


def test_what_a_function_imports_comes_with_what_that_imports_relatively(tmp_path: Path) -> None:
    program, library = tmp_path / "program", tmp_path / "library"
    files = {
        program / "app.py": "def f():\n    import reached\n",
        library / "reached" / "__init__.py": "from ._parser import parse\nfrom . import tables\n",
        library / "reached" / "_parser.py": "from .inner.deep import x\n",
        library / "reached" / "tables.py": "",
        library / "reached" / "inner" / "__init__.py": "",
        library / "reached" / "inner" / "deep.py": "from .. import upper\nx = 1\n",
        library / "reached" / "upper.py": "",
        library / "not_reached.py": "",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    bundle = Bundle(Library([]))
    bundle.add_reached([str(program)], str(library))
    found = ["", "._parser", ".inner", ".inner.deep", ".tables", ".upper"]
    assert sorted(bundle._modules) == [f"reached{name}" for name in found]
