"""One attempt to run a snippet: its text, the world around it, and what a program needs to look at the outcome."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable
from typing import Any

from seed_world import World

from cerebelum import Context, workflow

_numbers = itertools.count(1)


class Trial:
    """A snippet in a namespace and a world of its own."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.world = World()
        self.names: dict[str, Any] = {"__name__": "snippet", **self.world.names()}

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    async def run(self) -> None:
        """Runs the snippet as a program whose top level may await."""
        code = compile(self.text, self.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, self.names)
        if inspect.isawaitable(running):
            await running

    async def run_in_step(self) -> None:
        """Runs the snippet as the body of a step."""

        @self["step"](name=self.name.replace(".", "_"), retry=1)  # type: ignore[untyped-decorator]
        async def body(context: Context) -> None:
            self.names["context"] = context
            await self.run()

        await self.execute(body)

    async def step(self, name: str, *inputs: Any) -> Any:
        """What a step of the snippet returns, run on its own."""
        return await self.execute(self[name], *inputs)

    async def execute(self, step: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """What a step returns when a workflow of nothing else is executed.

        # Raises
        ExecutionError when it fails.
        """

        @workflow(name=f"trial_{next(_numbers)}")
        async def alone(context: Context) -> Any:
            return await step(context, *inputs)

        return (await alone.execute(**options)).output


def definitions(text: str) -> str:
    """What a snippet defines, without what it awaits at its top."""
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return ast.unparse(tree)
