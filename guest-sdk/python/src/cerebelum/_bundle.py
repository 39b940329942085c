"""Modules and source lines that a component keeps in memory, because it has no files at run time."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import os
import sys
from types import ModuleType
from typing import Any

from . import _unsupported
from ._code import Library, sources, unpack

# Imported into the base, so that their first use at run time costs nothing and components share their bytes.
USUAL = (
    "_strptime",
    "asyncio",
    "base64",
    "calendar",
    "cerebelum.timeline",
    "decimal",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
    "encodings.unicode_escape",
    "encodings.utf_8_sig",
    "fractions",
    "hashlib",
    "hmac",
    "secrets",
    "statistics",
    "urllib.parse",
    "uuid",
    "zoneinfo",
)

# Modules of the standard library that are left out: they need a terminal, a process, a socket or a file system, only
# developers use them, or a native twin is there.
UNUSABLE = frozenset(
    {
        "__phello__",
        "_pydatetime",
        "_pydecimal",
        "_pyio",
        "_pyrepl",
        "antigravity",
        "bdb",
        "cProfile",
        "concurrent",
        "ctypes",
        "curses",
        "dbm",
        "doctest",
        "ensurepip",
        "ftplib",
        "idlelib",
        "imaplib",
        "lib-dynload",
        "lib2to3",
        "mailbox",
        "multiprocessing",
        "pdb",
        "pickletools",
        "poplib",
        "profile",
        "proactor_events",
        "pstats",
        "pty",
        "pydoc",
        "pydoc_data",
        "site-packages",
        "smtplib",
        "socketserver",
        "test",
        "tests",
        "this",
        "tkinter",
        "trace",
        "turtle",
        "turtledemo",
        "unix_events",
        "venv",
        "webbrowser",
        "windows_events",
        "windows_utils",
        "wsgiref",
    }
)
# The alternatives to some of them.
INSTEAD = {
    **dict.fromkeys(("concurrent",), _unsupported.THREADS),
    **dict.fromkeys(("concurrent.futures.process", "multiprocessing", "pty"), _unsupported.PROCESSES),
    **dict.fromkeys(("ftplib", "imaplib", "poplib", "smtplib", "socketserver", "wsgiref"), _unsupported.SOCKETS),
}
# About the bytes that compiling leaves behind; wiping more would enlarge the memory.
LEFTOVER_BYTES = 3 << 20


class Bundle(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that were not imported while the component was built, kept as compiled code."""

    def __init__(self, code: Library) -> None:
        self._code = code
        self._modules: dict[str, tuple[str, bool, bytes]] = {}

    def add(self, root: str) -> None:
        """Adds every module below a folder that is not imported yet."""
        for path in sources(root):
            self._add_file(root, path)

    def add_reached(self, roots: list[str], library: str) -> None:
        """Adds the modules of a library that sources below these folders import, and their imports in turn."""
        # Each with the package that its relative imports begin at: below the roots, everything is taken in anyway.
        waiting, seen = [(path, "") for root in roots for path in sources(root)], set()
        while waiting:
            source, package = waiting.pop()
            for imported in self._code.of(source).imports:
                name = absolute(imported, package)
                path = os.path.join(library, *name.split("."))
                files = [file for file in (f"{path}.py", os.path.join(path, "__init__.py")) if os.path.isfile(file)]
                if (
                    name
                    and files
                    and name not in seen
                    and name not in sys.modules
                    and UNUSABLE.isdisjoint(name.split("."))
                ):
                    seen.add(name)
                    self._add_file(library, files[0])
                    waiting.append((files[0], name if files[0].endswith("__init__.py") else name.rpartition(".")[0]))

    def _add_file(self, root: str, path: str) -> None:
        name = path[len(root) + 1 : -3].replace("/", ".")
        is_package = name.endswith(".__init__") or name == "__init__"
        name = name.removesuffix(".__init__")
        if name in sys.modules or name in self._modules or not all(part.isidentifier() for part in name.split(".")):
            return
        packed = self._code.of(path).packed()
        if packed:
            self._modules[name] = (path, is_package, packed)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """A module of the bundle.

        # Raises
        UnsupportedModuleError for a module of the standard library that cannot work here.
        """
        found = self._modules.get(name)
        if found is None:
            instead = INSTEAD.get(name) or INSTEAD.get(name.partition(".")[0])
            if instead is not None:
                raise _unsupported.UnsupportedModuleError(f"No module named '{name}': {instead}", name=name)
            return None
        return importlib.util.spec_from_loader(name, self, origin=found[0], is_package=found[1])

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """An ordinary one."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Runs its code."""
        exec(unpack(self._modules[module.__name__][2]), module.__dict__)
        _unsupported.after_import(module)


def absolute(name: str, package: str) -> str:
    """The whole name of a module that is imported in a package; empty when it leads out of it."""
    near = name.lstrip(".")
    up = len(name) - len(near) - 1
    if up < 0:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - up], near]) if package and up < len(parts) else ""


def import_usual() -> None:
    """Imports what most programs import sooner or later."""
    for name in USUAL:
        importlib.import_module(name)


def library() -> str:
    """Where the standard library is."""
    return os.path.dirname(os.path.dirname(json.__file__))


def keep(roots: list[str], code: Library) -> None:
    """Keeps what is needed of the folders of the author's modules and of what they depend on."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith(tuple(f"{root}/" for root in roots)):
            # Without a modification time, so that linecache does not look for the file again.
            linecache.cache[path] = (0, None, linecache.getlines(path), path)
    bundle = Bundle(code)
    for root in roots:
        bundle.add(root)
    # Not the whole library: every instance pays for the size of its initial memory.
    bundle.add_reached(roots, library())
    sys.meta_path.append(bundle)


def wipe() -> None:
    """Overwrites free memory with zeros: memory is part of the component, where zeros take no space."""
    gc.collect()
    # Small ones first: each has a head that is not zero, which larger ones wipe where they find room.
    for size in (448, 1 << 12, 1 << 14, 1 << 16):
        zeros = [bytes(size) for _ in range(LEFTOVER_BYTES // size)]
        del zeros
