"""What an exit threshold does to each class."""

import numpy as np

from lfvit_cli.analysis.exits import simulate
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion
from lfvit_cli.records import Facts

WORST = 10


class ClassOutcome(Facts):
    """One class at one exit threshold.

    Attributes:
        name: the class's name, or its index where names are unknown.
        exit_rate: share of its images that never reach the last stage.
        top1: share answered correctly with the early exit.
        top1_last: share answered correctly by the last stage alone.
        change: top1 - top1_last.
    """

    name: str
    images: int
    exit_rate: float
    top1: float
    top1_last: float
    change: float


def class_outcomes(
    predictions: Predictions, thresholds: tuple[float, ...], criterion: Criterion = Criterion.CONFIDENCE
) -> tuple[ClassOutcome, ...]:
    """Give every class that has images, the greatest loss of accuracy first, then the highest exit rate."""
    outcome = simulate(predictions, thresholds, criterion)
    last = list(predictions.stages.values())[-1].prediction == predictions.labels
    early = outcome.stage < len(predictions.stages) - 1
    labels, names = predictions.labels, predictions.metadata.classes
    images, exits, right, right_last = (
        np.bincount(labels[mask], minlength=labels.max() + 1) for mask in (labels >= 0, early, outcome.correct, last)
    )
    rows = [
        ClassOutcome(
            name=names[index] if names else str(index),
            images=int(images[index]),
            exit_rate=float(exits[index] / images[index]),
            top1=float(right[index] / images[index]),
            top1_last=float(right_last[index] / images[index]),
            change=float((right[index] - right_last[index]) / images[index]),
        )
        for index in np.flatnonzero(images)
    ]
    return tuple(sorted(rows, key=lambda row: (row.change, -row.exit_rate)))
