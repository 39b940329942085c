"""A Python workflow that calls a step in Rust, and a step in Python for a workflow in Rust.

`examples/rust-and-python` is the other side. Values and failures are JSON: neither side sees which language the other
one speaks. A component is named as it was uploaded: upload both under the names of their folders.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from cerebelum import Context, Failure, StepError, call_step, component, step, workflow

MOODS = ["brave", "calm", "eager", "gentle", "lucky", "proud", "quiet", "swift"]
ANIMALS = ["otter", "heron", "lynx", "badger", "wren", "ibex", "crane", "hare"]


@dataclass
class Labelled:
    """A fingerprint with a name that people can say."""

    fingerprint: int
    label: str


@step
async def name_number(context: Context, fingerprint: int) -> Labelled:
    """Finds a name for a number. Rust calls it as `python-and-rust/name_number`."""
    if fingerprint % 13 == 0:
        message = f"{fingerprint} is a multiple of 13"
        raise Failure(message, kind="unlucky", details={"number": fingerprint, "of": [13, None]}, retryable=False)
    mood, animal = MOODS[fingerprint % 8], ANIMALS[fingerprint // 8 % 8]
    return Labelled(fingerprint, f"{mood}-{animal}")


@workflow
async def fingerprints(context: Context, texts: list[str]) -> dict[str, Any]:
    """The fingerprints of texts and their sum, computed by a step that is written in Rust."""
    found: list[int] = await asyncio.gather(*(call_step("rust-and-python/fingerprint", text) for text in texts))
    # Numbers are exact in both languages, whatever their size.
    return {"fingerprints": found, "sum": sum(found)}


@workflow
async def refused(context: Context, text: str) -> dict[str, Any]:
    """What a step in Rust says when it refuses."""
    try:
        return {"fingerprint": await call_step("rust-and-python/fingerprint", text)}
    except StepError as error:
        return {"kind": error.kind, "message": error.message, "details": error.details, "retryable": error.retryable}


component()
