"""Curves to judge an exit rule by: the best rule there can be, and one that knows nothing."""

import numpy as np
from numpy.typing import NDArray

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
    """Give the curves `oracle`, `random`, and `{stage}_only` of every stage."""
    singles = {
        f"{stage}_only": (point,) for stage, point in zip(predictions.stages, _singles(predictions), strict=True)
    }
    return {"oracle": oracle_exit(predictions), "random": random_exit(predictions), **singles}


def oracle_exit(predictions: Predictions) -> tuple[ReferencePoint, ...]:
    """Give the best top-1 that any exit rule can reach at each cost, knowing the labels.

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
    """Give the top-1 of exits drawn by lot: mixtures of the stages, so straight lines between those worth mixing.

    With more than two stages these are the upper hull of the single stages by cost (or, of unknown cost, all stages).
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
    """Give what each stage reaches when it answers every image."""
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
