"""Samples: rates over windows, their bounds, and the outline of a job of any length."""

import pytest

from mover.admin.statistics import Rates
from mover.control.statistics_series import OUTLINE_POINTS, SAMPLES, Outline, Series, Shape


def test_rates_are_over_their_windows() -> None:
    series = Series(0.0, 0)
    for second in range(1, 101):
        series.add(float(second), 10 * second if second <= 95 else 950)
    (rates,) = series.rates(100.5, 950)
    assert [rates.over_1, rates.over_10, rates.over_60] == pytest.approx([0.0, 4.762, 9.091], abs=0.01)


def test_a_row_that_is_young_has_the_rate_of_its_life() -> None:
    series = Series(10.0, 0, 5)
    assert series.rates(10.5, 100, 5) == [Rates(over_1=200.0, over_10=200.0, over_60=200.0), Rates()]
    assert series.rates(12.0, 0, 9) == [Rates(), Rates(over_1=2.0, over_10=2.0, over_60=2.0)]
    assert series.rates(10.0, 100) == [Rates()]


def test_a_rate_is_never_negative() -> None:
    series = Series(0.0, 100)
    assert series.rates(1.0, 90) == [Rates()]


def test_what_is_kept_is_bounded() -> None:
    series, shape = Series(0.0, 0), Shape()
    for second in range(1000):
        series.add(float(second), second)
        shape.add(second / 1000)
    assert len(series._samples) == SAMPLES
    assert len(shape.values()) == SAMPLES
    assert shape.values()[-1] == 0.999


@pytest.mark.parametrize("seconds", [1, 50, 121, 1000, 20_000])
def test_an_outline_keeps_its_size_and_the_whole_amount(seconds: int) -> None:
    outline = Outline(0.0)
    for second in range(1, seconds + 1):
        outline.add(float(second), 3.0 * second)
    rates = outline.rates(float(seconds), 3.0 * seconds)
    assert 1 <= len(rates) <= 2 * OUTLINE_POINTS + 1
    assert rates == pytest.approx([3.0] * len(rates), abs=0.01)
    if seconds > 2 * OUTLINE_POINTS:
        assert len(rates) >= OUTLINE_POINTS // 2
