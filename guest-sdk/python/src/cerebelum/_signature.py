"""How the parameters of a workflow or step become one JSON value, and back."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import _types, _values
from .context import Context
from .errors import SerializationError

CONTEXT_NAMES = ("context", "ctx")


@dataclass(frozen=True)
class Parameter:
    """A parameter besides the context."""

    name: str
    hint: Any
    required: bool
    default: Any = inspect.Parameter.empty


class Signature:
    """The signature of a workflow or step.

    With one parameter besides the context the JSON value is that parameter's, or an object of it (see `only_by_name`);
    with several it is an object of them; with none it is null.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        found = list(inspect.signature(function).parameters.values())
        self.names = [parameter.name for parameter in found]
        self._rest = found[1:]
        self.first = found[0] if found else None

    def problems(self) -> list[str]:
        """What keeps this from being the signature of a step, in sentences."""
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        problems = [
            f"{'*' if p.kind is variadic[0] else '**'}{p.name} cannot be a parameter: name each result that is needed"
            for p in self._rest
            if p.kind in variadic
        ]
        if not self.takes_context:
            problems.insert(0, f"First parameter must be 'context'. Got: {self.names}")
        return problems

    @property
    def takes_context(self) -> bool:
        """Whether the first parameter is the context."""
        if self.first is None:
            return False
        return self.first.name in CONTEXT_NAMES or self.first.annotation in (Context, "Context")

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The type hints, resolved.

        # Raises
        NameError when one names something that is not there.
        """
        return typing.get_type_hints(inspect.unwrap(self._function), include_extras=True)

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The parameters besides the context."""
        return [
            Parameter(p.name, self.hints.get(p.name, Any), p.default is inspect.Parameter.empty, p.default)
            for p in self._rest
        ]

    @property
    def parameter_names(self) -> list[str]:
        """The names of the parameters besides the context, without looking at hints."""
        return [p.name for p in self._rest]

    @cached_property
    def returns(self) -> Any:
        """The hint of what a caller is given: what is returned, out of its envelope."""
        return _types.returned(self.hints.get("return", Any))

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str) -> str:
        """The JSON value that stands for a call's arguments, the context left out.

        # Raises
        TypeError for wrong arguments, SerializationError for one that is not JSON.
        """
        try:
            bound = inspect.Signature(self._rest).bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{what}: {error}") from None
        if len(self._rest) == 1:
            only = self._rest[0]
            if only.name in bound:
                return _values.encode(bound[only.name], what)
            # Left out is not None: the default travels, if it can.
            try:
                return _values.encode(only.default, what)
            except SerializationError:
                return "null"
        return _values.encode(bound if self._rest else None, what)

    def decode(self, text: str, what: str) -> dict[str, Any]:
        """The arguments that a JSON value stands for.

        # Raises
        SerializationError when it does not fit.
        """
        if not self.parameters:
            return {}
        if len(self.parameters) == 1:
            only = self.parameters[0]
            if text == "null" and not only.required and not self._takes_none:
                return {}
            given = _values.read(text, what)
            if self.only_by_name and isinstance(given, dict) and given.keys() == {only.name}:
                return {only.name: _values.convert(given[only.name], only.hint, what, f".{only.name}")}
            return {only.name: _values.convert(given, only.hint, what)}
        return self._decode_object(text, what)

    @cached_property
    def only_by_name(self) -> bool:
        """Whether an object with nothing but the only parameter's name stands for that parameter.

        Callers that write it go on being understood when there is a second parameter. Where such an object can be a
        value of the parameter itself, it is that.
        """
        only = self.parameters[0]
        return not _types.may_have(_types.shape_of(only.hint), only.name)

    @cached_property
    def _takes_none(self) -> bool:
        """Whether null is a value of the only parameter, and not a word for leaving it out."""
        hint = self.parameters[0].hint
        try:
            return hint is not Any and _values.convert(None, hint, "null") is None
        except SerializationError:
            return False

    def without_context(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call besides the context, which comes first or by its name.

        # Raises
        TypeError when it does not.
        """
        named, name = dict(kwargs), self.names[0] if self.names else CONTEXT_NAMES[0]
        given = args[0] if args else named.pop(name, None)
        if given is not None and not isinstance(given, Context):
            raise TypeError(f"{what} takes the context first: {self._function.__name__}({', '.join(self.names)})")
        return args[1:], named

    def _decode_object(self, text: str, what: str) -> dict[str, Any]:
        given = json.loads(text)
        if not isinstance(given, dict):
            names = ", ".join(self.parameter_names)
            raise SerializationError(f"{what}: expected an object with {names}, got {_values.kind_of(given)}")
        missing = [p.name for p in self.parameters if p.required and p.name not in given]
        if missing:
            raise SerializationError(f"{what}: {', '.join(missing)} missing")
        return {
            p.name: _values.convert(given[p.name], p.hint, what, f".{p.name}")
            for p in self.parameters
            if p.name in given
        }
