"""Tests of app.py; what stands in for the step in Rust is the same function in Python."""

from app import fingerprints, name_number, refused

from cerebelum import Failure
from cerebelum.testing import Local

FINGERPRINT = "rust-and-python/fingerprint"


def fingerprint(text: str) -> int:
    if not text:
        raise Failure(
            "an empty text has no fingerprint", kind="nothing-to-hash", details={"length": 0}, retryable=False
        )
    number = 0xCBF29CE484222325
    for byte in text.encode():
        number = (number ^ byte) * 0x100000001B3 % 2**64
    return number


def test_numbers_are_exact_beyond_64_bits() -> None:
    run = Local().replace(FINGERPRINT, fingerprint).run(fingerprints, ["cafe", "tea"])
    numbers = [13058325180887633960, 6261350492309512777]
    assert run.output == {"fingerprints": numbers, "sum": sum(numbers)}
    assert sum(numbers) > 2**64


def test_a_failure_has_kind_message_and_details() -> None:
    run = Local().replace(FINGERPRINT, fingerprint).run(refused, "")
    assert run.output == {
        "kind": "nothing-to-hash",
        "message": "an empty text has no fingerprint",
        "details": {"length": 0},
        "retryable": False,
    }


def test_a_failure_that_nobody_catches_is_that_of_the_execution() -> None:
    run = Local().replace(FINGERPRINT, fingerprint).run(fingerprints, ["tea", ""])
    assert run.failure is not None
    assert (run.failure.kind, run.failure.details) == ("nothing-to-hash", {"length": 0})


def test_what_rust_calls_can_be_tested_by_itself() -> None:
    run = Local().run_step(name_number, 13058325180887633960)
    assert run.output == {"fingerprint": 13058325180887633960, "label": "brave-ibex"}
    refusal = Local().run_step(name_number, 26).failure
    assert refusal is not None
    assert (refusal.kind, refusal.message, refusal.retryable) == ("unlucky", "26 is a multiple of 13", False)
    assert refusal.details == {"number": 26, "of": [13, None]}
