"""For the generative client: bodies that are not JSON, and ids of things that are there."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/wasm", "application/x-ndjson")
def as_bytes(context: Any, value: Any) -> bytes:
    """Sends bytes and texts as they are, and everything else as a line of JSON."""
    if isinstance(value, bytes):
        return value
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Every second id or name is that of the execution, or the component, that the test has made."""
    for name, there in (("id", "q"), ("name", "guests")):
        if path_parameters and len(str(path_parameters.get(name, "?"))) % 2 == 0:
            path_parameters[name] = there
    return path_parameters
