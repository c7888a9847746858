"""What an average hides: how far each stage's confidence can be believed, and what a threshold does to each class."""

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.exits import simulate
from lfvit_cli.analysis.intervals import wilson
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion
from lfvit_cli.records import Facts

BINS = 15


class ReliabilityBin(Facts):
    """Images of one stage whose confidence lies in (low, high].

    Attributes:
        confidence: their mean confidence.
        top1: the share answered correctly, with its 95 % Wilson interval.
    """

    low: float
    high: float
    images: int
    confidence: float
    top1: float
    top1_low: float
    top1_high: float


class Calibration(Facts):
    """How far one stage's confidence can be believed.

    Attributes:
        ece: expected calibration error: the mean gap between confidence and accuracy over 15 bins of equal width,
            weighted by images (Guo et al., ICML 2017).
        auroc: chance that a right answer has a higher confidence than a wrong one; None without one of both.
        bins: the reliability diagram, without empty bins.
    """

    stage: str
    top1: float
    confidence: float
    ece: float
    auroc: float | None
    bins: tuple[ReliabilityBin, ...]


def calibration(predictions: Predictions) -> tuple[Calibration, ...]:
    """Compare confidence with accuracy, stage by stage."""
    return tuple(
        stage_calibration(stage, answers.confidence, answers.prediction == predictions.labels)
        for stage, answers in predictions.stages.items()
    )


def stage_calibration(
    stage: str, confidence: NDArray[np.floating], correct: NDArray[np.bool_], *, bins: int = BINS
) -> Calibration:
    """Compare the confidence (N,) of one stage with whether it was right (N,)."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    cells = np.searchsorted(edges[1:-1], confidence, side="left")
    images = np.bincount(cells, minlength=bins)
    filled = np.flatnonzero(images)
    images = images[filled]
    right = np.bincount(cells[correct], minlength=bins)[filled]
    sure = np.bincount(cells, weights=confidence, minlength=bins)[filled]
    columns = {
        "low": edges[filled],
        "high": edges[filled + 1],
        "images": images,
        "confidence": sure / images,
        "top1": right / images,
        **dict(zip(("top1_low", "top1_high"), wilson(right, images), strict=True)),
    }
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return Calibration(
        stage=stage,
        top1=float(correct.mean()),
        confidence=float(confidence.mean(dtype=np.float64)),
        ece=float(np.abs(sure - right).sum() / len(confidence)),
        auroc=auroc(confidence, correct),
        bins=tuple(ReliabilityBin(**dict(zip(columns, row, strict=True))) for row in rows),
    )


def auroc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve of confidence (N,) as a sign of a right answer (N,).

    That is the share of pairs of a right and a wrong answer in which the right one is more confident, a tie counting
    half (Mann and Whitney, 1947); None where there is no such pair.
    """
    if correct.all() or not correct.any():
        return None
    right, wrong = confidence[correct], np.sort(confidence[~correct])
    below, up_to = (np.searchsorted(wrong, right, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(wrong)))


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
    """Return every class that has images, the greatest loss of accuracy first, then the highest exit rate."""
    outcome = simulate(predictions, thresholds, criterion)
    last = list(predictions.stages.values())[-1].prediction == predictions.labels
    early = outcome.stage < len(predictions.stages) - 1
    classes, place = np.unique(predictions.labels, return_inverse=True)
    images, exits, right, right_last = (
        np.bincount(place[rows], minlength=len(classes)) for rows in (place >= 0, early, outcome.correct, last)
    )
    names = predictions.metadata.classes
    found = [
        ClassOutcome(
            name=names[label] if names else str(label),
            images=int(images[index]),
            exit_rate=float(exits[index] / images[index]),
            top1=float(right[index] / images[index]),
            top1_last=float(right_last[index] / images[index]),
            change=float((right[index] - right_last[index]) / images[index]),
        )
        for index, label in enumerate(classes.tolist())
    ]
    return tuple(sorted(found, key=lambda each: (each.change, -each.exit_rate)))
