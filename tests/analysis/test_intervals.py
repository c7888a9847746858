"""Tests of analysis/intervals.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from lfvit_cli.analysis.intervals import ONE_SIDED, bootstrap_mean, paired_difference, paired_score, share, wilson


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


@given(total=st.integers(1, 60_000), part=st.floats(0, 1))
def test_one_sided_bounds_are_the_ends_of_a_90_percent_interval(total: int, part: float) -> None:
    """A one-sided 95 % bound leaves 5 % on one side, as a two-sided 90 % interval does."""
    count = round(part * total)
    low, high = wilson(count, total, ONE_SIDED)
    expected = stats.binomtest(count, total).proportion_ci(0.90, method="wilson")
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(lost=st.integers(0, 400), gained=st.integers(0, 400))
def test_without_margin_the_score_is_mcnemars(lost: int, gained: int) -> None:
    """At a margin of 0 only the images whose answers differ count, as in McNemar's test; without any it is 0."""
    score = paired_score([lost], [gained], 1_000, 0.0)[0]
    expected = (gained - lost) / np.sqrt(gained + lost) if lost + gained else 0.0
    assert score == pytest.approx(expected)


@given(lost=st.integers(0, 60), gained=st.integers(0, 60), margin=st.floats(0.005, 0.3))
def test_the_score_uses_the_likeliest_shares_at_the_margin(lost: int, gained: int, margin: float) -> None:
    """The deviation is that of the shares of greatest likelihood whose difference is the margin, found numerically."""
    total = 200
    counts = np.array([lost, gained, total - lost - gained])

    def unlikelihood(gain: float) -> float:
        return -float(counts @ np.log([gain + margin, gain, 1 - 2 * gain - margin]))

    ends = (1e-12, (1 - margin) / 2 - 1e-12)
    gain = optimize.minimize_scalar(unlikelihood, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    deviation = np.sqrt(total * (2 * gain + margin - margin**2))
    assert paired_score([lost], [gained], total, margin)[0] == pytest.approx(
        (total * margin - lost + gained) / deviation, abs=1e-3
    )
