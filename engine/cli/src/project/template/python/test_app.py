"""Tests of app.py on a virtual clock: a day takes no time, and no engine is needed."""

from datetime import timedelta

from app import visit

from cerebelum.testing import Local


def test_a_visit_of_a_day_goes_from_hello_to_goodbye() -> None:
    run = Local().run(visit, {"name": "Ada", "stay_seconds": 86_400})
    assert run.output == ["Welcome, Ada!", "Goodbye, Ada!"]
    assert run.elapsed == timedelta(days=1)
