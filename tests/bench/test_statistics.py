"""Estimates are the median, its quartiles and an interval that covers as it should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfvit_cli.bench.statistics import estimate


def test_the_median_and_the_quartiles_are_those_of_numpy() -> None:
    """Five values with known quartiles."""
    found = estimate([1, 2, 3, 4, 100])
    assert (found.median, found.q1, found.q3) == (3, 2, 4)
    assert found.spread == pytest.approx(2 / 3)


def test_a_single_value_is_its_own_interval() -> None:
    """There is nothing to resample."""
    found = estimate([5.0])
    assert (found.low, found.median, found.high) == (5, 5, 5)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=30))
def test_the_interval_holds_the_median_and_lies_within_the_data(values: list[float]) -> None:
    """Whatever the values."""
    found = estimate(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    """Of 200 samples from a known distribution, at least 88 % of the 95 % intervals hold its median."""
    generator = np.random.default_rng(0)
    intervals = [estimate(generator.exponential(size=25).tolist()) for _ in range(200)]
    covered = sum(found.low <= np.log(2) <= found.high for found in intervals)
    assert covered >= 176
