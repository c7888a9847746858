"""What a set of timings says: medians, quartiles, ratios, and their bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from lfvit_cli.measure.record import Facts

RESAMPLES = 2000
SEED = 0


class Estimate(Facts):
    """A median with its spread.

    Attributes:
        median: of the rounds.
        low: lower end of the bootstrap 95 % interval of the median.
        high: its upper end.
        q1: first quartile of the rounds.
        q3: third quartile.
    """

    median: float
    low: float
    high: float
    q1: float
    q3: float

    @property
    def spread(self) -> float:
        """The interquartile range over the median."""
        return (self.q3 - self.q1) / self.median


def estimate(values: Sequence[float]) -> Estimate:
    """Median, quartiles and bootstrap 95 % interval of the median; a single value is its own interval."""
    q1, median, q3 = (float(value) for value in np.percentile(values, (25, 50, 75)))
    if len(values) < 2:
        return Estimate(median=median, low=median, high=median, q1=q1, q3=q3)
    interval = stats.bootstrap(
        (np.asarray(values),), np.median, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(SEED)
    ).confidence_interval
    return Estimate(median=median, low=float(interval.low), high=float(interval.high), q1=q1, q3=q3)


def ratio_of_totals(times: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """How many times as long one contender took as another over the same rounds.

    Totals, not the median of each round's ratio: with exits in it, the mixture of a round swings its time, and a
    median ratio would flatter the network whose time swings.

    Args:
        times: (R,) of the one, such as the reference.
        ours: (R,) of the other, round by round on the same photos.

    Returns:
        The ratio, and the low and high end of its bootstrap 95 % interval over rounds, resampled as pairs.
    """
    ratio = float(np.sum(times) / np.sum(ours))
    if len(times) < 2:
        return ratio, ratio, ratio
    interval = stats.bootstrap(
        (np.asarray(times), np.asarray(ours)),
        lambda one, other, axis: one.sum(axis=axis) / other.sum(axis=axis),
        paired=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return ratio, float(interval.low), float(interval.high)
