"""How far a stage's confidence can be believed, and how well it tells right answers from wrong ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.intervals import wilson
from lfvit_cli.evaluation.table import Predictions
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
        auroc: chance that a right answer has a higher confidence than a wrong one; None where all are right or wrong.
        bins: the reliability diagram, without empty bins.
    """

    stage: str
    top1: float
    confidence: float
    ece: float
    auroc: float | None
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class _Binned:
    """Sums over the images of each bin."""

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.int64]


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
    sums = _Binned(
        images=np.bincount(cells, minlength=bins),
        confidence=np.bincount(cells, weights=confidence, minlength=bins).astype(np.float64),
        correct=np.bincount(cells[correct], minlength=bins),
    )
    return Calibration(
        stage=stage,
        top1=float(correct.mean()),
        confidence=float(confidence.mean(dtype=np.float64)),
        ece=float(np.abs(sums.confidence - sums.correct).sum() / len(confidence)),
        auroc=auroc(confidence, correct),
        bins=tuple(_bin(sums, int(index), edges) for index in np.flatnonzero(sums.images)),
    )


def auroc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float | None:
    """Give the area under the ROC curve of confidence (N,) as a sign of a right answer (N,).

    It is the share of pairs of a right and a wrong answer in which the right one is more confident, a tie counting
    half (Mann and Whitney, 1947). `sklearn.metrics.roc_auc_score` agrees, after a second of importing.
    """
    if correct.all() or not correct.any():
        return None
    right, wrong = confidence[correct], np.sort(confidence[~correct])
    below, up_to = (np.searchsorted(wrong, right, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(wrong)))


def _bin(sums: _Binned, index: int, edges: NDArray[np.float64]) -> ReliabilityBin:
    images, correct = int(sums.images[index]), int(sums.correct[index])
    low, high = wilson(correct, images)
    return ReliabilityBin(
        low=edges[index],
        high=edges[index + 1],
        images=images,
        confidence=sums.confidence[index] / images,
        top1=correct / images,
        top1_low=float(low),
        top1_high=float(high),
    )
