"""Tests of app.py: workflows run in this process, on a virtual clock."""

from app import visit, welcome
from cerebelum.testing import Local

ADA = {"name": "Ada", "stay_seconds": 30 * 24 * 3600}


def test_a_visit_of_a_month_is_tested_in_no_time() -> None:
    run = Local().run(visit, ADA)
    assert run.output == ["Welcome, Ada!", "Goodbye, Ada!"]
