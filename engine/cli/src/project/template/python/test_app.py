"""Tests of app.py: workflows run in this process, no engine needed."""

import asyncio

from app import visit


def test_a_visit_goes_from_hello_to_goodbye() -> None:
    result = asyncio.run(visit.execute({"name": "Ada", "stay_seconds": 0.01}))
    assert result.output == ["Welcome, Ada!", "Goodbye, Ada!"]
