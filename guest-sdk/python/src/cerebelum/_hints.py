"""Types that an author gives to a call as a value: `returns=Payment`, `schema=Terms`."""

from __future__ import annotations

from typing import Any

from . import _values
from ._types import is_model, is_record, shape_of
from .errors import Failure, SerializationError, misuse


def check_hint(hint: Any, where: str, option: str) -> None:
    """Checks that JSON can become what this type stands for; `where` names the call that it was given to.

    # Raises
    TypeError, which is permanent and says what to write, when it cannot.
    """
    if hint is Any:
        return
    from ._schema import unfit

    if isinstance(hint, str):
        raise misuse(f"{where}: write {option}={hint}, the type itself, and not its name {hint!r}")
    cls = type(hint)
    if is_record(cls) or is_model(cls):
        raise misuse(f"{where}: write {option}={cls.__name__}, the type itself, and not a value of it")
    for at, why in unfit(shape_of(hint)):
        raise misuse(f"{where}: {option} is a type, a dataclass for example{at and f'; at {at}'}: {why}")


def told(text: str, hint: Any, what: str) -> Any:
    """What was told to this scope, as its type hint wants it.

    # Raises
    Failure of kind `schema-mismatch` when it does not fit; another attempt would be told the same.
    """
    try:
        return _values.decode(text, hint, what)
    except SerializationError as error:
        raise Failure(str(error), kind="schema-mismatch", retryable=False) from None
