"""Fetches the dependencies of a program for `cerebelum build`: pure Python only, as nothing else runs in a component.

Runs in CPython with pip. The answer is one JSON document on stdout: `errors` and `warnings`, lists of sentences.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

# The version of Python inside a component.
PYTHON = "3.14"
# Published with native code for every platform, but able to work without it: the native part is left out.
DO_WITHOUT = frozenset({"markupsafe", "msgpack", "pyyaml", "wrapt"})
# What to use instead.
INSTEAD = {
    "pydantic-core": "`pydantic<2` is pure Python",
    "orjson": "the library's json does the same",
    "ujson": "the library's json does the same",
    "aiohttp": "use cerebelum.http, or httpx with cerebelum.httpx_transport",
    "grpcio": "use cerebelum.http",
    "cryptography": "hashlib and hmac are there",
}
# Pure Python that opens sockets itself and so cannot work; refused when the author asks for it.
HOPELESS = frozenset({"boto3", "pg8000", "pymongo", "pymysql", "redis", "requests", "urllib3", "websockets"})
SOCKETS = "{0} opens sockets, which a component does not have: use cerebelum.http, or httpx, for which the engine sends"
NATIVE = "{0} has native code; only pure-Python packages can run in a component{1}"
SOURCE = "{0} is published as source only; it was built here, with the code that its author runs for that"
UNREACHED = ("connection error", "Failed to establish", "Max retries", "Name or service", "name resolution")


class Refused(Exception):
    """The dependencies cannot be installed, for these reasons."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(*sentences)
        self.sentences = list(sentences)


@dataclass(frozen=True)
class Package:
    """A package that pip chose."""

    name: str
    version: str
    url: str
    # Which package asked for it, if it was not the author.
    wanted_by: str | None

    @property
    def file(self) -> str:
        """The name of the file it is published as."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def is_pure(self) -> bool:
        """Whether it is a wheel without native code."""
        return self.file.endswith("-none-any.whl")

    def __str__(self) -> str:
        return f"{self.name} (for {self.wanted_by})" if self.wanted_by else self.name


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages_of(report: Mapping[str, Any]) -> list[Package]:
    """What pip's report says it would install."""
    wanted: dict[str, str] = {}
    for item in report["install"]:
        for line in item["metadata"].get("requires_dist", ()):
            wanted.setdefault(normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]), item["metadata"]["name"])
    return [
        Package(
            item["metadata"]["name"],
            item["metadata"]["version"],
            item["download_info"]["url"],
            None if item.get("requested") else wanted.get(normal(item["metadata"]["name"])),
        )
        for item in report["install"]
    ]


def install(requirements: str, target: str) -> list[str]:
    """Installs a list of requirements into an empty folder, and returns warnings for the author.

    # Raises
    Refused when that is not possible.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheels = os.path.join(folder, "wheels")
        packages = packages_of(resolve(requirements, os.path.join(folder, "report.json")))
        if not packages:
            return []
        refuse_hopeless(packages)
        warnings, natives = [], []
        for package in packages:
            if package.is_pure or fetch_pure(package, wheels):
                continue
            if not package.file.endswith(".whl"):
                warnings.append(SOURCE.format(package))
            elif normal(package.name) not in DO_WITHOUT:
                natives.append(package)
        if natives:
            raise Refused(*(NATIVE.format(native, hint(native)) for native in natives))
        known = set(os.listdir(wheels)) if os.path.isdir(wheels) else set()
        missing = [package for package in packages if not any(is_wheel_of(package, file) for file in known)]
        if missing:
            pip("wheel", "--no-deps", "-w", wheels, *(package.url for package in missing))
        refuse_built_natives(wheels, packages)
        files = [os.path.join(wheels, file) for file in sorted(os.listdir(wheels))]
        pip("install", "--no-deps", "--no-index", "--no-compile", "--target", target, *files)
    strip(target)
    return warnings


def refuse_hopeless(packages: Iterable[Package]) -> None:
    """Refuses packages that can never work. One that another package asks for may be optional there."""
    hopeless = [package for package in packages if normal(package.name) in HOPELESS and package.wanted_by is None]
    if hopeless:
        raise Refused(*(SOCKETS.format(package) for package in hopeless))


def resolve(requirements: str, report: str) -> Any:
    """The packages that pip chooses on this machine."""
    pip("install", "--dry-run", "--ignore-installed", "--prefer-binary", "--report", report, "-r", requirements)
    with open(report, encoding="utf-8") as file:
        return json.load(file)


def fetch_pure(package: Package, wheels: str) -> bool:
    """Whether the same version is published without native code as well; then it is fetched."""
    only = ("--only-binary", ":all:", "--platform", "any", "--implementation", "py", "--abi", "none")
    wanted = f"{package.name}=={package.version}"
    if not package.file.endswith(".whl"):
        return False
    try:
        pip("download", "--no-deps", *only, "--python-version", PYTHON, "-d", wheels, wanted)
    except Refused:
        return False
    return True


def is_wheel_of(package: Package, file: str) -> bool:
    """Whether a file is the wheel of a package."""
    name, version, *_ = file.split("-")
    return normal(name) == normal(package.name) and version == package.version


def refuse_built_natives(wheels: str, packages: Iterable[Package]) -> None:
    """Refuses packages that turned out to be native when they were built from source."""
    refused = []
    for package in packages:
        for file in os.listdir(wheels):
            is_native = not file.endswith("-none-any.whl") and normal(package.name) not in DO_WITHOUT
            if is_native and is_wheel_of(package, file):
                refused.append(NATIVE.format(package, hint(package)))
    if refused:
        raise Refused(*refused)


def hint(package: Package) -> str:
    """What to use instead, if we know."""
    found = INSTEAD.get(normal(package.name))
    return f": {found}" if found else ""


def strip(target: str) -> None:
    """Leaves out what a component cannot use."""
    shutil.rmtree(os.path.join(target, "bin"), ignore_errors=True)
    for folder, _, files in os.walk(target):
        for file in files:
            if file.endswith((".so", ".pyd", ".dylib", ".pyc")):
                os.remove(os.path.join(folder, file))


def pip(*arguments: str) -> None:
    """Runs pip quietly.

    # Raises
    Refused in pip's own words when it fails, cut to what matters.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Refused(reason(done.stdout))


def reason(output: str) -> str:
    """Why pip failed, in one line."""
    lines = [line.removeprefix("ERROR: ").strip() for line in output.splitlines() if line.strip()]
    if "No module named pip" in output:
        return f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`"
    if any(word in output for word in UNREACHED):
        return "the package index cannot be reached; dependencies are fetched once and kept"
    for line in lines:
        if "Could not find a version that satisfies the requirement" in line:
            wanted = re.sub(r" \(from versions: .*", "", line.rpartition("the requirement ")[2])
            return f"pip finds no {wanted} in its package index"
    errors = [line.removeprefix("ERROR: ").strip() for line in output.splitlines() if line.startswith("ERROR: ")]
    return f"pip says: {(errors or lines or ['nothing'])[0]}"


def main(arguments: list[str]) -> None:
    """Installs the list in the file `arguments[0]` into the folder `arguments[1]`."""
    try:
        answer = {"errors": [], "warnings": install(arguments[0], arguments[1])}
    except Refused as refused:
        answer = {"errors": refused.sentences, "warnings": []}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
