"""95 % intervals of shares and means."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfvit_cli.measure.record import Facts

# The normal quantile of a two-sided 95 % interval.
_Z = 1.959963984540054
_TAILS = (2.5, 97.5)
RESAMPLES = 9_999


class Estimate(Facts):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(counts: ArrayLike, total: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the ends of Wilson's score intervals of the shares counts / total (Wilson, 1927).

    `scipy.stats.binomtest` does the same for one share at a time; a curve has 50,000.
    """
    share = np.asarray(counts) / total
    spread = _Z**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = np.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # At 0 and 1 an end is the share itself, which rounding must not put outside.
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def share(count: int, total: int) -> Estimate:
    """Estimate a share with Wilson's interval."""
    low, high = wilson(count, total)
    return Estimate(value=count / total, low=float(low), high=float(high))


def bootstrap_mean(values: ArrayLike, counts: ArrayLike, rng: np.random.Generator) -> Estimate:
    """Estimate the mean of a sample that holds few distinct values, with the percentile bootstrap.

    Resampling such a sample is a multinomial draw of how often each value occurs, so the images need not be touched.

    Args:
        values: (V,) the distinct values.
        counts: (V,) how often each occurs; not all 0.
        rng: source of the resamples.
    """
    values, counts = np.asarray(values, dtype=float), np.asarray(counts)
    total = int(counts.sum())
    resampled = rng.multinomial(total, counts / total, size=RESAMPLES) @ values / total
    low, high = np.percentile(resampled, _TAILS)
    return Estimate(value=float(counts @ values / total), low=float(low), high=float(high))


def paired_difference(gained: int, lost: int, total: int, rng: np.random.Generator) -> Estimate:
    """Estimate the difference in accuracy of two answers to the same images, with the paired bootstrap.

    Args:
        gained: images that only the first answer has right.
        lost: images that only the second answer has right.
        total: all images.
        rng: source of the resamples.
    """
    return bootstrap_mean([1.0, -1.0, 0.0], [gained, lost, total - gained - lost], rng)
