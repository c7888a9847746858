"""95 % intervals of shares and means."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfvit_cli.records import Facts

# The normal quantiles of a two-sided 95 % interval and of a one-sided 95 % bound.
TWO_SIDED = 1.959963984540054
ONE_SIDED = 1.6448536269514722
_TAILS = (2.5, 97.5)
RESAMPLES = 9_999


class Estimate(Facts):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(
    counts: ArrayLike, total: int | NDArray[np.int64], quantile: float = TWO_SIDED
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of Wilson's score intervals of the shares counts / total (Wilson, 1927).

    For the mean of values between 0 and 1, with `counts` their sum, the interval is never too narrow: the variance of
    such values is at most that of a share (Bhatia and Davis, 2000).
    """
    share = np.asarray(counts) / total
    spread = quantile**2 / total
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


def paired_score(lost: ArrayLike, gained: ArrayLike, total: int, margin: float) -> NDArray[np.float64]:
    """Test whether a second answer to the same images loses at least `margin` of accuracy: Tango's score statistic.

    Where it exceeds a normal quantile, the loss is smaller than the margin (Tango, Statistics in Medicine, 1998). At a
    margin of 0 it is McNemar's statistic, and 0 if no image has answers that differ.

    Args:
        lost: images that only the first answer has right, one a test.
        gained: images that only the second answer has right, one a test.
        total: all images.
        margin: share of the images, 0..1.
    """
    lost, gained = np.asarray(lost, dtype=float), np.asarray(gained, dtype=float)
    # The likeliest share of gains where the share of losses exceeds it by the margin: the root of a quadratic.
    linear = lost + gained + margin * (lost - gained - 2 * total)
    root = np.sqrt(linear**2 + 8 * total * gained * margin * (1 - margin))
    gain = (linear + root) / (4 * total)
    deviation = np.sqrt(total * np.maximum(2 * gain + margin * (1 - margin), 0))
    distance = total * margin - (lost - gained)
    score: NDArray[np.float64] = np.divide(distance, deviation, out=np.zeros_like(distance), where=deviation > 0)
    return score
