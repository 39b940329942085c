"""What `cerebelum build` makes of pip's answers; that real packages are fetched is tested with the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cerebelum import _dependencies
from cerebelum._dependencies import Package


def item(name: str, file: str, requires: list[str] | None = None, requested: bool = False) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "version": "1.0", "requires_dist": requires or []},
        "download_info": {"url": f"https://files.example/{file}"},
        "requested": requested,
    }


def test_a_package_knows_who_wanted_it_and_whether_it_is_pure() -> None:
    report = {
        "install": [
            item("pydantic", "pydantic-1.0-py3-none-any.whl", ["pydantic_core==1.0; python_version > '3'"], True),
            item("pydantic-core", "pydantic_core-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"),
            item("docopt", "docopt-1.0.tar.gz", requested=True),
        ]
    }
    pydantic, core, docopt = _dependencies.packages_of(report)
    assert [str(package) for package in (pydantic, core, docopt)] == [
        "pydantic",
        "pydantic-core (for pydantic)",
        "docopt",
    ]
    assert [package.is_pure for package in (pydantic, core, docopt)] == [True, False, False]
    assert "pydantic<2" in _dependencies.hint(core)


def test_a_wheel_is_told_from_that_of_another_package() -> None:
    package = Package("charset-normalizer", "3.4", "https://files.example/x.whl", None)
    assert _dependencies.is_wheel_of(package, "charset_normalizer-3.4-py3-none-any.whl")
    assert not _dependencies.is_wheel_of(package, "charset_normalizer-3.5-py3-none-any.whl")
    assert not _dependencies.is_wheel_of(package, "charset-3.4-py3-none-any.whl")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement nowhere>=1 (from versions: none)\n"
            "ERROR: No matching distribution found for nowhere>=1\n",
            "pip finds no nowhere>=1 in its package index",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Failed to establish a "
            "new connection: [Errno -3] Temporary failure in name resolution'\n"
            "ERROR: Could not find a version that satisfies the requirement httpx (from versions: none)\n",
            "the package index cannot be reached; dependencies are fetched once and kept",
        ),
        ("ERROR: Invalid requirement: 'a b'\n", "pip says: Invalid requirement: 'a b'"),
        ("", "pip says: nothing"),
    ],
)
def test_why_pip_failed_is_one_line(output: str, told: str) -> None:
    assert _dependencies.reason(output) == told


def test_what_a_component_cannot_use_is_left_out(tmp_path: Path) -> None:
    for name in ("bin/tool", "yaml/__init__.py", "yaml/_yaml.cpython-311-x86_64-linux-gnu.so", "yaml/x.pyc"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    _dependencies.strip(str(tmp_path))
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["yaml/__init__.py"]


def test_a_package_that_opens_sockets_is_refused_when_the_author_asks_for_it() -> None:
    wheel = "https://files.example/x-1.0-py3-none-any.whl"
    wanted = Package("requests", "2.0", wheel, "cachecontrol")
    _dependencies.refuse_hopeless([wanted, Package("httpx", "1", wheel, None)])
    with pytest.raises(_dependencies.Refused) as refused:
        _dependencies.refuse_hopeless([Package("Requests", "2.0", wheel, None), Package("redis", "5", wheel, None)])
    assert len(refused.value.sentences) == 2
    assert refused.value.sentences[0].startswith("Requests opens sockets")
