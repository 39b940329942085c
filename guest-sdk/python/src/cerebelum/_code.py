"""Compiled code of modules, kept in files: a build would otherwise compile the same libraries again each time."""

from __future__ import annotations

import ast
import importlib.machinery
import marshal
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import CodeType

# How long the length of the index is, at the beginning of a file.
HEAD_BYTES = 8


@dataclass
class Compiled:
    """A source file, compiled."""

    # The modules that it imports, anywhere in it, with the packages around them.
    imports: list[str]
    # Its code; empty when it cannot be compiled.
    packed: Callable[[], bytes]


class Library:
    """Source files by their paths: compiled before, or when they are asked for."""

    def __init__(self, files: list[str]) -> None:
        self._found: dict[str, Compiled] = {}
        for file in files:
            with open(file, "rb") as stream:
                length = int.from_bytes(stream.read(HEAD_BYTES), "big")
                index: dict[str, tuple[int, int, list[str]]] = marshal.loads(stream.read(length))
            for path, (at, size, imports) in index.items():
                self._found[path] = Compiled(imports, part(file, HEAD_BYTES + length + at, size))

    def of(self, path: str) -> Compiled:
        """A source file."""
        return self._found.get(path) or compiled(path)

    def serve(self) -> Callable[[], None]:
        """Makes imports use code that was compiled before.

        # Returns
        what undoes that
        """
        own = importlib.machinery.SourceFileLoader.get_code

        def get_code(loader: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
            found = self._found.get(loader.path)
            return unpack(found.packed()) if found else own(loader, name)

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
        return lambda: setattr(importlib.machinery.SourceFileLoader, "get_code", own)


def part(file: str, at: int, size: int) -> Callable[[], bytes]:
    """What reads a part of a file."""

    def read() -> bytes:
        with open(file, "rb") as stream:
            stream.seek(at)
            return stream.read(size)

    return read


def write(root: str, file: str, without: Collection[str] = ()) -> None:
    """Compiles the modules below a folder into a file, without those of some names."""
    index, parts, at = {}, [], 0
    for path in sources(root, without):
        found = compiled(path)
        packed = found.packed()
        if packed:
            index[path] = (at, len(packed), found.imports)
            parts.append(packed)
            at += len(packed)
    head = marshal.dumps(index)
    with open(f"{file}.new", "wb") as stream:
        stream.write(len(head).to_bytes(HEAD_BYTES, "big") + head + b"".join(parts))
    os.replace(f"{file}.new", file)


def sources(root: str, without: Collection[str] = ()) -> Iterator[str]:
    """The source files below a folder, always in the same order."""
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in without and name != "__pycache__")
        for file in sorted(files):
            if file.endswith(".py") and file[:-3] not in without:
                yield os.path.join(folder, file)


def compiled(path: str) -> Compiled:
    """Compiles a source file. It is empty for a template or a test of the compiler, which cannot be imported."""
    try:
        with open(path, "rb") as source:
            tree = ast.parse(source.read(), path)
        code = compile(tree, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OSError):
        return Compiled([], bytes)
    return Compiled(imported(tree), lambda: zlib.compress(marshal.dumps(code), 9))


def imported(tree: ast.AST) -> list[str]:
    """The modules that a module imports, with the packages around them, always in the same order. Those that are
    relative to its package begin with a dot."""
    names: set[str] = set()
    near: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            below = [node.module] if node.module else []
            paths = {".".join([*below, alias.name]) for alias in node.names}
            near.update("." * node.level + path for path in with_packages(paths))
    return sorted(with_packages(names) | near)


def with_packages(names: Collection[str]) -> set[str]:
    """Modules, and the packages around them."""
    parts = [name.split(".") for name in names]
    return {".".join(part[: end + 1]) for part in parts for end in range(len(part))}


def unpack(packed: bytes) -> CodeType:
    """The code of a compiled module."""
    code: CodeType = marshal.loads(zlib.decompress(packed))
    return code
