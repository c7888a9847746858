"""What a set of timings says: the median, its quartiles and a bootstrap interval."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from lfvit_cli.records import Facts

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
    # Rounding may put an end just outside of the data.
    low, high = np.clip(interval, min(values), max(values))
    return Estimate(median=median, low=float(low), high=float(high), q1=q1, q3=q3)
