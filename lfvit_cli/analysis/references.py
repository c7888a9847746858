"""What an exit curve is judged by: the best exit rule there can be, one that knows nothing, and the area between."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfvit_cli.analysis.exits import ExitCurve
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.records import Facts


class ReferencePoint(Facts):
    """A corner of a reference curve; between corners it is straight.

    Attributes:
        exit_rate: share of images that never reach the last stage.
        macs: expected MACs of one image; None if unknown.
    """

    exit_rate: float
    top1: float
    macs: float | None


def reference_curves(predictions: Predictions) -> dict[str, tuple[ReferencePoint, ...]]:
    """Return the curves `oracle`, `random`, and `{stage}_only` of every stage."""
    singles = {
        f"{stage}_only": (point,) for stage, point in zip(predictions.stages, _singles(predictions), strict=True)
    }
    return {"oracle": oracle_exit(predictions), "random": random_exit(predictions), **singles}


def oracle_exit(predictions: Predictions) -> tuple[ReferencePoint, ...]:
    """Return the best top-1 that any exit rule can reach at each cost, knowing the labels.

    An image costs more than the first stage only where the first stage is wrong and a later one is right; it then
    exits at the first stage that is right. The curve takes the cheapest of these images first, and ends when none is
    left: no greater cost buys more.
    """
    right = _right(predictions)
    first_right = np.where(right.any(axis=0), right.argmax(axis=0), 0)
    answered = np.bincount(first_right, minlength=len(right))
    never_right = len(predictions) - int(right.any(axis=0).sum())
    corners = []
    for last in range(len(right)):
        # Images that need a stage beyond `last` are still answered, wrongly, by the first.
        taken = answered.copy()
        taken[0] += taken[last + 1 :].sum()
        taken[last + 1 :] = 0
        correct = int(answered[: last + 1].sum()) - never_right
        corners.append(_point(predictions, taken, correct))
    return tuple(corners)


def random_exit(predictions: Predictions) -> tuple[ReferencePoint, ...]:
    """Return the top-1 of exits drawn at random: straight lines between the single stages.

    With more than two stages they run along the upper hull of the stages by cost; through all stages of unknown cost.
    """
    singles = _singles(predictions)
    hull: list[ReferencePoint] = []
    for point in singles:
        while len(hull) >= 2 and _below(hull[-1], hull[-2], point):
            hull.pop()
        hull.append(point)
    return tuple(hull)


def _below(middle: ReferencePoint, left: ReferencePoint, right: ReferencePoint) -> bool:
    if middle.macs is None or left.macs is None or right.macs is None:
        return False
    rise = (right.top1 - left.top1) * (middle.macs - left.macs)
    return (middle.top1 - left.top1) * (right.macs - left.macs) <= rise


def _singles(predictions: Predictions) -> list[ReferencePoint]:
    """Return what each stage reaches when it answers every image."""
    right = _right(predictions)
    everyone = len(predictions) * np.eye(len(right), dtype=np.int64)
    return [_point(predictions, row, int(correct.sum())) for row, correct in zip(everyone, right, strict=True)]


def _right(predictions: Predictions) -> NDArray[np.bool_]:
    """(S, N) whether each stage's answer is the label."""
    return np.stack([answers.prediction == predictions.labels for answers in predictions.stages.values()])


def _point(predictions: Predictions, answered: NDArray[np.int64], correct: int) -> ReferencePoint:
    total, macs = len(predictions), predictions.metadata.macs
    return ReferencePoint(
        exit_rate=float((total - answered[-1]) / total),
        top1=correct / total,
        macs=None if macs is None else float(answered @ np.cumsum(macs) / total),
    )


class Area(Facts):
    """Mean top-1 over all budgets, from the first stage alone to every stage for every image.

    The cost axis is the share of the MACs beyond the first stage's that is spent: 0 where every image stops at the
    first stage, 1 where none stops early. So the area under top-1 is a mean top-1, and networks of different cost can
    be compared. With two stages the axis is 1 - exit rate, whatever the MACs.

    Attributes:
        curve: area of the exit curve.
        random: area of exits drawn at random.
        oracle: area of the best exits there can be.
        share_of_oracle: the curve's gain over random exits as a share of the oracle's; None where that gains nothing.
    """

    curve: float
    random: float
    oracle: float
    share_of_oracle: float | None


def area_under(curve: ExitCurve, oracle: Sequence[ReferencePoint], random: Sequence[ReferencePoint]) -> Area:
    """Compare the area under a curve of two or more stages with those of its references."""
    costs = _spent(curve.exit_rate, curve.macs, curve.stage_macs)
    exits = _mean_height(costs, curve.top1)
    chance, best = (
        _mean_height(
            _spent([p.exit_rate for p in points], [p.macs or 0.0 for p in points], curve.stage_macs),
            [p.top1 for p in points],
        )
        for points in (random, oracle)
    )
    return Area(
        curve=exits,
        random=chance,
        oracle=best,
        share_of_oracle=(exits - chance) / (best - chance) if best > chance else None,
    )


def _spent(exit_rate: ArrayLike, macs: ArrayLike | None, stage_macs: tuple[int, ...] | None) -> ArrayLike:
    if macs is None or stage_macs is None:
        return 1.0 - np.asarray(exit_rate)
    first, every = stage_macs[0], sum(stage_macs)
    return (np.asarray(macs) - first) / (every - first)


def _mean_height(costs: ArrayLike, top1: ArrayLike) -> float:
    """Integrate by trapezia from 0 to 1; beyond the last point more cost buys nothing."""
    x, y = np.asarray(costs), np.asarray(top1)
    return float(np.trapezoid(np.append(y, y[-1]), np.append(x, 1.0)))
