"""The people and roles that may answer a question. The engine reads them from the schema of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import Failure

# Names the approvers of a question, in the schema of its answer.
APPROVERS_KEYWORD = "x-cerebelum-approvers"
# The most approvers of a question, and the most bytes of each.
APPROVERS_MAX = 32
APPROVER_BYTES_MAX = 256
ROLES = ("admin", "developer", "operator", "approver", "viewer")


def with_approvers(schema: Mapping[str, Any] | None, approvers: Sequence[str] | None) -> Mapping[str, Any] | None:
    """The schema of an answer with the list of approvers; one that accepts everything else if there is none.

    # Raises
    TypeError when the list is a text, Failure of kind `invalid-argument` when the engine would not accept it.
    """
    if approvers is None:
        return schema
    if isinstance(approvers, str):
        raise TypeError(f"approvers is a list: approvers=[{approvers!r}]")
    listed = list(approvers)
    why = _problem(listed)
    if why is not None:
        message = f"an approval's approvers are not accepted: {why}"
        raise Failure(message, kind="invalid-argument", retryable=False)
    return {**(schema or {}), APPROVERS_KEYWORD: listed}


def _problem(listed: list[Any]) -> str | None:
    if not 1 <= len(listed) <= APPROVERS_MAX:
        return f"a question has 1 to {APPROVERS_MAX} approvers, not {len(listed)}"
    for entry in listed:
        if not isinstance(entry, str):
            return f"an approver is a text, not {entry!r}"
        size = len(entry.encode("utf-8", "surrogatepass"))
        if not 1 <= size <= APPROVER_BYTES_MAX:
            return f"an approver has 1 to {APPROVER_BYTES_MAX} bytes, not {size}"
        if any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in entry):
            return f"the approver {entry!r} has a control character"
        if entry.startswith("role:") and entry.removeprefix("role:") not in ROLES:
            return f"the approver `{entry}` names no role: use one of {', '.join(ROLES)}"
    return None
