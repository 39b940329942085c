"""Which module or function a name in a source file stands for, as far as that is certain."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
SCOPES = (*FUNCTIONS, ast.ClassDef)
# What a star import brings from here is known to hide nothing.
HARMLESS_STARS = frozenset({"cerebelum"})


@dataclass
class Bindings:
    """The names that one module, class or function binds: imports with what they import, and all others."""

    imported: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    has_star: bool = False

    def bind(self, name: str, dotted: str | None) -> None:
        """Notes a name, and the import that it stands for, if it is one."""
        if dotted is None or self.imported.get(name, dotted) != dotted:
            self.others.add(name)
        else:
            self.imported[name] = dotted


class Names:
    """The names of one module."""

    def __init__(self, tree: ast.Module) -> None:
        # Names that a function may rebind from within, and attributes that are replaced: of these nothing is certain.
        self._uncertain = {name for node in ast.walk(tree) for name in _rebound(node)}
        self._module = bindings_of(tree)

    def resolve(self, node: ast.expr, scopes: tuple[Bindings, ...]) -> str | None:
        """The dotted name of a function or class, such as `threading.Thread`; None unless it is certain.

        Args:
            node: the expression.
            scopes: the functions around it, outermost first.
        """
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value, scopes)
            return None if owner is None or node.attr in self._uncertain else f"{owner}.{node.attr}"
        if not isinstance(node, ast.Name) or node.id in self._uncertain:
            return None
        for scope in (*reversed(scopes), self._module):
            if scope.has_star or node.id in scope.others:
                return None
            if node.id in scope.imported:
                return scope.imported[node.id]
        return f"builtins.{node.id}" if hasattr(builtins, node.id) else None


def bindings_of(scope: ast.AST) -> Bindings:
    """What a module, class or function binds itself, without what is nested in it."""
    found = Bindings()
    if isinstance(scope, FUNCTIONS):
        for argument in ast.walk(scope.args):
            if isinstance(argument, ast.arg):
                found.bind(argument.arg, None)
    for node in own_nodes(scope):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.bind(alias.asname or alias.name.partition(".")[0], imported_by(alias))
        elif isinstance(node, ast.ImportFrom):
            _bind_from(found, node)
        else:
            for name in _bound(node):
                found.bind(name, None)
    return found


def imported_by(alias: ast.alias) -> str:
    """What the name stands for that `import a.b` or `import a.b as c` binds."""
    return alias.name if alias.asname else alias.name.partition(".")[0]


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything in a scope's body besides the bodies of scopes that are nested in it."""
    body = [scope.body] if isinstance(scope, ast.Lambda) else list(getattr(scope, "body", ()))
    while body:
        node = body.pop()
        yield node
        body.extend(around(node) if isinstance(node, SCOPES) else ast.iter_child_nodes(node))


def around(scope: ast.AST) -> Iterator[ast.AST]:
    """What belongs to the scope around a function or class: its decorators, and the defaults of its parameters."""
    yield from getattr(scope, "decorator_list", ())
    yield from getattr(scope, "bases", ())
    if isinstance(scope, FUNCTIONS):
        yield from scope.args.defaults
        yield from (default for default in scope.args.kw_defaults if default is not None)


def _bind_from(found: Bindings, node: ast.ImportFrom) -> None:
    for alias in node.names:
        if alias.name == "*":
            found.has_star |= node.level > 0 or node.module not in HARMLESS_STARS
        else:
            found.bind(alias.asname or alias.name, f"{node.module}.{alias.name}" if node.level == 0 else None)


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return [node.id]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        return [node.name]
    if isinstance(node, ast.MatchMapping) and node.rest:
        return [node.rest]
    return []


def _rebound(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return node.names
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        return [] if is_own else [node.attr]
    return []
