"""Packages that need something when they are imported in a component: what happens before and after."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import _unsupported


class HttpxHook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Sees the import of httpx, wherever it is found, and gives it a transport afterwards."""

    def __init__(self) -> None:
        self._own: importlib.abc.Loader | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the others find, with this as its loader."""
        if name != "httpx":
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                self._own, spec.loader = spec.loader, self
                return spec
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As its own loader would."""
        return None if self._own is None else self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs it, then has it use the engine."""
        if self._own is not None:
            module.__loader__ = self._own
            self._own.exec_module(module)
        from . import httpx_transport

        httpx_transport.install()


def refusing(made: object, name: str) -> Any:
    """What stands for the methods of something that is not there."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _unsupported.refusing(_unsupported.SOCKETS)


class UnsupportedModule(ModuleType):
    """A module that CPython has and a component has not: whatever is looked up in it is an empty class.

    It is there so that libraries can be imported that only mention it in signatures and `except` clauses. Those who
    really use it are told what to use instead.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        bases, body = ((OSError,), {}) if "Error" in name else ((), {"__getattr__": refusing})
        made = type(name, bases, {"__module__": self.__name__, **body})
        setattr(self, name, made)
        return made


def install() -> None:
    """Prepares for what the author's module may import."""
    try:
        import ssl  # noqa: F401
    except ImportError:
        sys.modules["ssl"] = UnsupportedModule("ssl", "There is no TLS in a component: the engine speaks it.")
    sys.meta_path.insert(0, HttpxHook())
