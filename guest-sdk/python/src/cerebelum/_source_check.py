"""What the functions of a program call that a component does not have, and durations in a doubtful unit: found in the
source without running it.

Only what is certain is reported: a name counts when nothing but an import binds it. What a function does on purpose
in one place only, behind `sys.platform` or from `if __name__ == "__main__"`, is left alone.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from . import _dependencies, _unit_check, _unsupported
from ._names import FUNCTIONS, Bindings, Names, bindings_of, own_nodes
from ._source_rules import (
    ALWAYS,
    ENVIRONMENT,
    MISSING,
    NATIVE,
    NATIVE_MODULES,
    PATHS,
    PATHS_WRITING,
    SOMETIMES,
    literal,
)


@dataclass(frozen=True)
class Finding:
    """Something that cannot work or is doubtful, and where it stands."""

    file: str
    line: int
    text: str


class Zones:
    """The time zones that a program makes at module level, where their data can be read."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.keys: set[str | None] = {key for source in sources for key in source.zones_of_module()}

    def has(self, key: str | None) -> bool:
        """Whether a zone may have been made there."""
        return key is None or key in self.keys or None in self.keys


class Source:
    """One file of the program."""

    def __init__(self, file: str) -> None:
        self.file = file
        with tokenize.open(file) as stream:
            self.tree = ast.parse(stream.read(), file)
        self.names = Names(self.tree)
        self._by_hand = by_hand(self.tree)
        self._all = list(functions(self.tree, ()))

    def zones_of_module(self) -> Iterator[str | None]:
        """The keys of the zones that it makes at module level; None for one that is not a literal."""
        for node in own_nodes(self.tree):
            if isinstance(node, ast.Call) and self.names.resolve(node.func, ()) == "zoneinfo.ZoneInfo":
                yield literal(node.args[0]) if node.args else None

    def findings(self, zones: Zones) -> Iterator[Finding]:
        """What its functions do that cannot work in a component."""
        for function, scopes in self._functions():
            for node in certain(function):
                text = self._told(node, function, scopes, zones)
                if text is not None:
                    yield Finding(self.file, node.lineno, text)

    def doubts(self) -> Iterator[Finding]:
        """Durations anywhere in it that are probably meant in another unit."""
        for scope, scopes in ((self.tree, ()), *self._all):
            for node in own_nodes(scope):
                if isinstance(node, ast.Call):
                    for text in _unit_check.doubts(self.names.resolve(node.func, scopes), node):
                        yield Finding(self.file, node.lineno, text)

    def _functions(self) -> Iterator[tuple[ast.AST, tuple[Bindings, ...]]]:
        for function, scopes in self._all:
            is_nested = len(scopes) > 1
            if is_nested or getattr(function, "name", None) not in self._by_hand:
                yield function, scopes

    def _told(self, node: ast.AST, function: ast.AST, scopes: tuple[Bindings, ...], zones: Zones) -> str | None:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            is_environment = self.names.resolve(node.value, scopes) == "os.environ"
            return f"os.environ[…]: {ENVIRONMENT}" if is_environment else None
        if not isinstance(node, ast.Call):
            return None
        called = self.names.resolve(node.func, scopes)
        why = ALWAYS.get(called or "") or self._why_not(called, node, function, scopes, zones)
        written = (called or ast.unparse(node.func)).removeprefix("builtins.")
        return None if why is None else f"{written}: {why}"

    def _why_not(
        self, called: str | None, call: ast.Call, function: ast.AST, scopes: tuple[Bindings, ...], zones: Zones
    ) -> str | None:
        """Why a call fails that works with other arguments, or elsewhere; None when it does not fail."""
        if called in SOMETIMES:
            return SOMETIMES[called](call)
        if called == "zoneinfo.ZoneInfo":
            key = literal(call.args[0]) if call.args else None
            return None if zones.has(key) else _unsupported.ZONES.format(key)
        if called == "asyncio.run":
            return _unsupported.LOOPS if isinstance(function, ast.AsyncFunctionDef) else None
        if isinstance(call.func, ast.Attribute) and call.func.attr in PATHS_WRITING:
            return _unsupported.FILES if self._is_path(call.func.value, scopes) else None
        return None

    def _is_path(self, node: ast.expr, scopes: tuple[Bindings, ...]) -> bool:
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            node = node.left
        return isinstance(node, ast.Call) and self.names.resolve(node.func, scopes) in PATHS

    def missing(self, root: str) -> Iterator[Finding]:
        """The modules that its functions import unconditionally and that are nowhere."""
        for function, _ in self._functions():
            for node in certain(function):
                for name in imported_modules(node):
                    text = why_missing(name, root)
                    if text is not None:
                        yield Finding(self.file, node.lineno, f"import {name}: {text}")

    def imports(self) -> set[str]:
        """Every module that it imports anywhere, and what it imports from one, as that may be a module."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        return found


def check(files: Iterable[str], root: str) -> list[Finding]:
    """What the functions of a program do that cannot work in a component, and durations that are doubtful.

    Args:
        files: the program's modules that are imported.
        root: its folder: what stands there and is imported by a function is looked at as well.
    """
    sources = read_all(files, root)
    zones = Zones(sources)
    found: list[Finding] = []
    for source in sources:
        # An expression of a thousand parts is nested as deeply.
        with contextlib.suppress(RecursionError):
            found += [*source.findings(zones), *source.doubts(), *source.missing(root)]
    return sorted(found, key=lambda finding: (finding.file, finding.line))


def read_all(files: Iterable[str], root: str) -> list[Source]:
    """The sources of a program, with those that only functions import. A file that cannot be read is left out."""
    waiting, sources = sorted(set(files)), {}
    while waiting:
        file = waiting.pop(0)
        if file in sources or not file.endswith(".py"):
            continue
        try:
            source = sources[file] = Source(file)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for name in sorted(source.imports()):
            path = os.path.join(root, *name.split("."))
            waiting += [file for file in (f"{path}.py", os.path.join(path, "__init__.py")) if os.path.isfile(file)]
    return list(sources.values())


def why_missing(name: str, root: str) -> str | None:
    """Why a module cannot be imported in the component; None when it can, as far as one can tell."""
    top = name.partition(".")[0]
    if top in NATIVE_MODULES:
        return NATIVE.format(top)
    if top in sys.stdlib_module_names or top in sys.modules:
        return None
    try:
        is_there = importlib.util.find_spec(top) is not None or os.path.exists(os.path.join(root, top))
    except (ImportError, ValueError):
        return None
    if is_there:
        return None
    return _dependencies.SOCKETS.format(top) if top in _dependencies.HOPELESS else MISSING.format(top)


def imported_modules(node: ast.AST) -> list[str]:
    """The modules that an import statement names; none for any other."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module else []


def functions(node: ast.AST, scopes: tuple[Bindings, ...]) -> Iterator[tuple[ast.AST, tuple[Bindings, ...]]]:
    """All functions in a module, each with the scopes that its names are looked up in, its own last."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, FUNCTIONS):
            inside = (*scopes, bindings_of(inner))
            yield inner, inside
            yield from functions(inner, inside)
        else:
            yield from functions(inner, scopes)


def certain(function: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """What a function does wherever it runs: without nested functions, what depends on the platform, and imports whose
    failure is expected."""
    body = [function.body] if isinstance(function, ast.Lambda) else list(getattr(function, "body", ()))
    tried: set[ast.AST] = set()
    while body:
        node = body.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) or (isinstance(node, ast.If) and asks_for_platform(node.test)):
            continue
        if expects_import_error(node):
            tried.update(inner for inner in ast.walk(node) if isinstance(inner, (ast.Import, ast.ImportFrom)))
        if isinstance(node, (ast.expr, ast.stmt)) and node not in tried:
            yield node
        body.extend(ast.iter_child_nodes(node))


def asks_for_platform(test: ast.expr) -> bool:
    """Whether a condition is about where the program runs."""
    names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in ast.walk(test)}
    return not names.isdisjoint({"platform", "TYPE_CHECKING", "system"})


def expects_import_error(node: ast.AST) -> bool:
    """Whether an import in it may fail."""
    if isinstance(node, ast.Try):
        caught = [handler.type for handler in node.handlers]
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        caught = [item.context_expr for item in node.items]
    else:
        return False
    names = {getattr(inner, "id", "") for one in caught if one is not None for inner in ast.walk(one)}
    return None in caught or not names.isdisjoint({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def by_hand(tree: ast.Module) -> set[str]:
    """The functions that are only called from `if __name__ == "__main__"`: what starts a program in CPython."""
    main = [node for node in tree.body if isinstance(node, ast.If) and is_main(node.test)]
    plain = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list
    }
    found: set[str] = set()
    while main:
        inside = [*main, *(plain[name] for name in found)]
        elsewhere = {name for node in tree.body if node not in inside for name in loaded(node)}
        new = {name for node in inside for name in loaded(node)} & plain.keys() - elsewhere - found
        if not new:
            break
        found |= new
    return found


def is_main(test: ast.expr) -> bool:
    """Whether a condition is `__name__ == "__main__"`."""
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def loaded(node: ast.AST) -> set[str]:
    """The names that are looked up somewhere in it."""
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)}
