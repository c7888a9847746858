"""The cautious choice: thresholds that a sample of images shows, with 95 % confidence, to reach a target.

Thresholds are tested in an order fixed beforehand, from the safe end of the curve (no exit for an accuracy, exiting
always for a cost), each at 5 %, up to the first that fails. This is fixed-sequence testing (Maurer, Hothorn and
Lehmacher, 1995) as Learn then Test uses it to control a risk (Angelopoulos, Bates, Candes, Jordan and Lei, 2021). To
take a threshold that misses the target, the test of the first such threshold in the order must already have erred: with
however many thresholds, the chance of one that misses the target is at most 5 %, and no correction is needed.

The 5 % rest on each test's own: these are score tests, exact as the number of images grows. They hold for one target,
one sample, and further images like those of the sample.
"""

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.exits import ExitCurve, simulate
from lfvit_cli.analysis.intervals import ONE_SIDED, paired_score, wilson
from lfvit_cli.analysis.targets import Aim, Target, best_of
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion

# Of a front of more than two stages at most so many rows are tested, evenly spaced.
MOST_TESTS = 100


def choose_certain(curve: ExitCurve, target: Target) -> int | None:
    """Choose the row of a curve that serves a target best among those that are certain to reach it; None without any.

    A budget takes the highest top-1 of the certain rows; every other aim the cheapest. That no exit loses nothing needs
    no images: where only this is certain of a drop, nothing is.

    Args:
        curve: its thresholds chosen without its counts, or all thresholds of two stages.
        target: what to choose for.
    """
    holds = _holds(curve, target)
    if target.aim.is_cost:
        rows = np.flatnonzero(np.logical_and.accumulate(holds))
    else:
        rows = np.flatnonzero(np.logical_and.accumulate(holds[::-1])[::-1])
    if not len(rows):
        return None
    row = best_of(curve, target, rows)
    return None if target.aim is Aim.MAX_DROP and curve.exit_rate[row] == 0 else row


def counted_at(predictions: Predictions, front: ExitCurve, criterion: Criterion) -> ExitCurve:
    """Count what the thresholds of another sample's front do on these images, so that they can be tested on them.

    The front of more than two stages depends on the images it was found on: those cannot test it, others can (Laufer-
    Goldshtein, Fisch, Barzilay and Jaakkola, Efficiently controlling multiple risks with Pareto testing, 2023).
    """
    rows = np.unique(np.linspace(0, len(front) - 1, MOST_TESTS).round().astype(int))
    thresholds = front.thresholds[rows]
    right = [answers.prediction == predictions.labels for answers in predictions.stages.values()]
    outcomes = [simulate(predictions, tuple(row), criterion) for row in thresholds.tolist()]
    return ExitCurve(
        thresholds=thresholds,
        answered=np.stack([np.bincount(outcome.stage, minlength=len(right)) for outcome in outcomes]),
        correct=np.array([outcome.correct.sum() for outcome in outcomes]),
        correct_top5=None,
        harmed=np.array([(right[0] & ~outcome.correct).sum() for outcome in outcomes]),
        gained=np.array([(~right[0] & outcome.correct).sum() for outcome in outcomes]),
        lost=np.array([(right[-1] & ~outcome.correct).sum() for outcome in outcomes]),
        last_correct=int(right[-1].sum()),
        stage_macs=predictions.metadata.macs,
    )


def _holds(curve: ExitCurve, target: Target) -> NDArray[np.bool_]:
    """(P,) whether the one-sided 95 % bound of each row reaches the target."""
    total = curve.images
    holds: NDArray[np.bool_]
    match target.aim:
        case Aim.BUDGET:
            share, wanted = _cost_shares(curve, curve.stage_macs or (), target.value)
            holds = wilson(share * total, total, ONE_SIDED)[1] <= wanted
        case Aim.MAX_DROP:
            holds = paired_score(curve.lost, curve.won, total, target.value) >= ONE_SIDED
        case Aim.MIN_ACCURACY:
            holds = wilson(curve.correct, total, ONE_SIDED)[0] >= target.value
        case Aim.EXIT_RATE:
            holds = wilson(total - curve.answered[:, -1], total, ONE_SIDED)[0] >= target.value
    return holds


def _cost_shares(curve: ExitCurve, stage_macs: tuple[int, ...], budget: float) -> tuple[NDArray[np.float64], float]:
    """Place each row's expected MACs and a budget between the first stage's MACs, 0, and those of every stage, 1."""
    steps = np.cumsum(np.array(stage_macs))
    span = steps[-1] - steps[0]
    return curve.answered @ ((steps - steps[0]) / span) / curve.images, float((budget - steps[0]) / span)
