"""scripts/statistics-cost, small: a run ends with a table and stores nothing."""

from pathlib import Path

import pytest

from tests.support.short_runs import has_a_place, rows_of_a_quick_run


@pytest.mark.slow
def test_a_short_run_ends_with_a_table(checkout: Path) -> None:
    assert len(rows_of_a_quick_run(checkout, "statistics_cost.py")) == 3  # control, a job, and control in it


def test_it_has_its_place(checkout: Path) -> None:
    assert has_a_place(checkout, "statistics-cost")
