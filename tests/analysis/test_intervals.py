"""Tests of analysis/intervals.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lfvit_cli.analysis.intervals import bootstrap_mean, paired_difference, share, wilson


@given(total=st.integers(1, 60_000), part=st.floats(0, 1))
def test_wilson_agrees_with_scipy(total: int, part: float) -> None:
    """The vectorised interval is the one scipy computes for a single share, and holds the share."""
    count = round(part * total)
    low, high = wilson([count], total)
    expected = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low[0] <= share(count, total).value <= high[0]


def test_bootstrap_agrees_with_scipy() -> None:
    """Drawing counts gives the interval that resampling the images gives."""
    values, counts = [1.0, 4.0, 9.0], [120, 50, 30]
    sample = np.repeat(values, counts)
    ours = bootstrap_mean(values, counts, np.random.default_rng(0))
    theirs = stats.bootstrap((sample,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert ours.value == pytest.approx(sample.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_paired_difference_agrees_with_scipy() -> None:
    """The paired bootstrap on counts gives the interval of resampling the pairs."""
    one, other = np.repeat([1, 0, 1], [30, 18, 152]), np.repeat([0, 1, 1], [30, 18, 152])
    ours = paired_difference(30, 18, 200, np.random.default_rng(0))
    theirs = stats.bootstrap(
        (one, other),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.value == pytest.approx(0.06)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_equal_answers_differ_by_nothing() -> None:
    """Answers that are right on the same images differ by 0, with certainty."""
    estimate = paired_difference(0, 0, 10, np.random.default_rng(0))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)
