"""Modules and source lines that a component needs at run time, when there are no files any more."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import marshal
import os
import sys
import zlib
from types import ModuleType
from typing import Any

# What the standard library imports only when it is used.
USUAL = (
    "_strptime",
    "asyncio",
    "calendar",
    "decimal",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
    "encodings.unicode_escape",
    "encodings.utf_8_sig",
    "fractions",
    "statistics",
    "zoneinfo",
)


class Bundle(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that nobody imported while the component was built, kept as compiled code."""

    def __init__(self) -> None:
        self._modules: dict[str, tuple[str, bool, bytes]] = {}

    def add(self, root: str) -> None:
        """Takes in every module below a folder that is not imported yet."""
        for folder, _, files in os.walk(root):
            for file in files:
                if file.endswith(".py"):
                    self._add_file(root, os.path.join(folder, file))

    def _add_file(self, root: str, path: str) -> None:
        name = path[len(root) + 1 : -3].replace("/", ".")
        is_package = name.endswith(".__init__") or name == "__init__"
        name = name.removesuffix(".__init__")
        if name in sys.modules or name in self._modules or not all(part.isidentifier() for part in name.split(".")):
            return
        try:
            with open(path, encoding="utf-8") as source:
                code = compile(source.read(), path, "exec", dont_inherit=True, optimize=1)
        except (SyntaxError, ValueError, OSError):
            return  # A template, or a test of the compiler: nobody can import it anyway.
        self._modules[name] = (path, is_package, zlib.compress(marshal.dumps(code), 9))

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """A module of the bundle."""
        found = self._modules.get(name)
        if found is None:
            return None
        return importlib.util.spec_from_loader(name, self, origin=found[0], is_package=found[1])

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """An ordinary one."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Runs its code."""
        exec(marshal.loads(zlib.decompress(self._modules[module.__name__][2])), module.__dict__)


def keep(roots: list[str]) -> None:
    """Keeps what is needed of the folders of the author's modules and of what they depend on."""
    for name in USUAL:
        importlib.import_module(name)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith(tuple(f"{root}/" for root in roots)):
            # Without a time of change, so that nobody looks whether the file is still there.
            linecache.cache[path] = (0, None, linecache.getlines(path), path)
    bundle = Bundle()
    for root in roots:
        bundle.add(root)
    sys.meta_path.append(bundle)
