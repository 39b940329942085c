"""Import hooks of a component: httpx gets a transport, and missing modules get a stand-in."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import _unsupported


class HttpxHook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives httpx a transport as soon as it is imported, wherever it is found."""

    def __init__(self) -> None:
        self._own: importlib.abc.Loader | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders return, with this object as its loader."""
        if name != "httpx":
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                self._own, spec.loader = spec.loader, self
                return spec
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Delegates to the original loader."""
        return None if self._own is None else self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module, then makes it send through the engine."""
        if self._own is not None:
            module.__loader__ = self._own
            self._own.exec_module(module)
        from . import httpx_transport

        httpx_transport.install()


def refusing(made: object, name: str) -> Any:
    """A stand-in for the methods of an unsupported class."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _unsupported.refusing(_unsupported.SOCKETS)


class UnsupportedModule(ModuleType):
    """A module that a component does not have: every name in it is an empty class.

    Libraries that only mention it in signatures and `except` clauses can then be imported. Real use raises an error
    that names the alternative.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        bases, body = ((OSError,), {}) if "Error" in name else ((), {"__getattr__": refusing})
        made = type(name, bases, {"__module__": self.__name__, **body})
        setattr(self, name, made)
        return made


def install() -> None:
    """Installs the hooks, before the author's module is imported."""
    try:
        import ssl  # noqa: F401
    except ImportError:
        sys.modules["ssl"] = UnsupportedModule("ssl", "There is no TLS in a component: the engine speaks it.")
    sys.meta_path.insert(0, HttpxHook())
