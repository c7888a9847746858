"""The exact early-exit curve: what every threshold would have answered, and at what cost."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.counting import SharedThresholds, ThresholdGrid
from lfvit_cli.errors import AnalysisError
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion

# With more than two stages, at most this many combinations of thresholds are tried.
MOST_COMBINATIONS = 1_000_000


@dataclass(frozen=True, eq=False)
class ExitCurve:
    """P thresholds and what each gives on N images and S stages, from the highest exit rate to none.

    Attributes:
        thresholds: (P, S-1) one threshold for every stage but the last.
        answered: (P, S) images whose answer is that of each stage.
        correct: (P,) images answered correctly.
        correct_top5: (P,) images with the label among the five most probable; None where a stage does not tell.
        harmed: (P,) images that the first stage had right and the answer has wrong.
        gained: (P,) images that the first stage had wrong and the answer has right.
        lost: (P,) images that the last stage has right and the answer has wrong.
        last_correct: images that the last stage alone answers correctly.
        stage_macs: MACs that each stage adds for one image; None if unknown.
    """

    thresholds: NDArray[np.floating]
    answered: NDArray[np.int64]
    correct: NDArray[np.int64]
    correct_top5: NDArray[np.int64] | None
    harmed: NDArray[np.int64]
    gained: NDArray[np.int64]
    lost: NDArray[np.int64]
    last_correct: int
    stage_macs: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.correct)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> "ExitCurve":
        columns = {name: getattr(self, name) for name in _COLUMNS}
        taken: dict[str, Any] = {name: None if values is None else values[rows] for name, values in columns.items()}
        return replace(self, **taken)

    def followed_by(self, other: "ExitCurve") -> "ExitCurve":
        """The rows of two curves of the same images."""
        columns = {name: (getattr(self, name), getattr(other, name)) for name in _COLUMNS}
        joined: dict[str, Any] = {
            name: None if own is None or theirs is None else np.concatenate((own, theirs))
            for name, (own, theirs) in columns.items()
        }
        return replace(self, **joined)

    @cached_property
    def images(self) -> int:
        """N."""
        return int(self.answered[0].sum())

    @property
    def exit_rate(self) -> NDArray[np.float64]:
        """(P,) share of images that never reach the last stage."""
        return (self.images - self.answered[:, -1]) / self.images

    @property
    def top1(self) -> NDArray[np.float64]:
        """(P,) share of images answered correctly."""
        return self.correct / self.images

    @property
    def top5(self) -> NDArray[np.float64] | None:
        """(P,) share of images with the label among the five most probable."""
        return None if self.correct_top5 is None else self.correct_top5 / self.images

    @property
    def harm_rate(self) -> NDArray[np.float64]:
        """(P,) share of images that a later stage spoils. Top-1 is the first stage's, less harm, plus gain."""
        return self.harmed / self.images

    @property
    def gain_rate(self) -> NDArray[np.float64]:
        """(P,) share of images that a later stage puts right."""
        return self.gained / self.images

    @property
    def won(self) -> NDArray[np.int64]:
        """(P,) images that the last stage has wrong and the answer has right."""
        return self.correct - self.last_correct + self.lost

    @property
    def macs(self) -> NDArray[np.float64] | None:
        """(P,) expected MACs of one image."""
        if self.stage_macs is None:
            return None
        macs: NDArray[np.float64] = self.answered @ np.cumsum(self.stage_macs) / self.images
        return macs

    @property
    def macs_p95(self) -> NDArray[np.int64] | None:
        """(P,) the least MACs that cover 95 % of the images: always the cost of a whole number of stages."""
        if self.stage_macs is None:
            return None
        covered = 100 * np.cumsum(self.answered, axis=1) >= 95 * self.images
        macs: NDArray[np.int64] = np.cumsum(self.stage_macs)[np.argmax(covered, axis=1)]
        return macs


# Those with a row for each threshold.
_COLUMNS = tuple(field.name for field in fields(ExitCurve) if field.name not in ("last_correct", "stage_macs"))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an early exit does with each of N images.

    Attributes:
        stage: (N,) index of the stage that answers.
        prediction: (N,) class index.
        correct: (N,) whether the answer is the label.
        macs: (N,) MACs spent; None if unknown.
        stages: number of stages.
    """

    stage: NDArray[np.int64]
    prediction: NDArray[np.int64]
    correct: NDArray[np.bool_]
    macs: NDArray[np.int64] | None
    stages: int

    @property
    def exit_rate(self) -> float:
        """Share of the images that stop before the last stage, 0 to 1."""
        return float((self.stage < self.stages - 1).mean())


def simulate(
    predictions: Predictions, thresholds: tuple[float, ...], criterion: Criterion = Criterion.CONFIDENCE
) -> Outcome:
    """Decide image by image, as the network's own walk does: the first stage that reaches its threshold answers.

    Args:
        predictions: of all stages.
        thresholds: one for every stage but the last, which answers what no other stage does.
        criterion: what is compared with them.

    Raises:
        AnalysisError: a column that the criterion needs is missing.
    """
    answers = list(predictions.stages.values())
    values = criterion_values(predictions, criterion)
    stage = np.full(len(predictions), len(answers) - 1)
    prediction = answers[-1].prediction.copy()
    for index in reversed(range(len(answers) - 1)):
        exits = criterion.exits(values[index], thresholds[index])
        stage[exits] = index
        prediction[exits] = answers[index].prediction[exits]
    macs = predictions.metadata.macs
    return Outcome(
        stage=stage,
        prediction=prediction,
        correct=prediction == predictions.labels,
        macs=None if macs is None else np.cumsum(macs)[stage],
        stages=len(answers),
    )


def exit_curve(
    predictions: Predictions, criterion: Criterion = Criterion.CONFIDENCE, *, most_combinations: int = MOST_COMBINATIONS
) -> ExitCurve:
    """Trace top-1 against cost over all exit thresholds.

    Two stages: every distinct value of the criterion is a threshold, and "no exit" one more. Each row is exactly what
    `simulate` counts at it. One stage: a single row without a threshold.

    More stages: every threshold that all stages share, and every combination of one threshold a stage, out of all
    distinct values if there are at most `most_combinations`, otherwise out of equally many quantiles a stage. Each row
    is exact, and only the Pareto front is kept: the rows that no other row matches in top-1 at lower or equal MACs.

    Raises:
        AnalysisError: a column that the criterion needs is missing, or the MACs of more than two stages are unknown.
    """
    values = criterion_values(predictions, criterion)
    rising = [-each if criterion.exits_below else each for each in values]
    shared = SharedThresholds.of(rising, len(predictions))
    curve = _count(predictions, _as_given(shared.thresholds(), criterion), shared.answered)
    if len(predictions.stages) <= 2:
        return curve
    grid = ThresholdGrid.of(rising, most_combinations)
    return pareto_front(_count(predictions, _as_given(grid.thresholds(), criterion), grid.answered).followed_by(curve))


def curve_at(predictions: Predictions, thresholds: NDArray[np.floating], criterion: Criterion) -> ExitCurve:
    """Count what some thresholds (P, S-1) do, wherever they come from.

    Raises:
        AnalysisError: a column that the criterion needs is missing.
    """
    stages = np.stack([simulate(predictions, tuple(row), criterion).stage for row in thresholds.tolist()])
    return _count(predictions, thresholds, lambda stage, chosen: ((stages == stage) & chosen).sum(axis=1))


def pareto_front(curve: ExitCurve) -> ExitCurve:
    """Keep the rows that no other row matches in top-1 at lower or equal expected MACs, the cheapest first.

    Raises:
        AnalysisError: the MACs are unknown.
    """
    macs = curve.macs
    if macs is None:
        raise AnalysisError(
            "the MACs of the stages are unknown",
            "Give them with --macs: with more than two stages, thresholds are compared by cost.",
        )
    order = np.lexsort((-curve.correct, macs))
    best = np.maximum.accumulate(curve.correct[order])
    rises = np.concatenate(([True], best[1:] > best[:-1]))
    return curve[order[rises]]


def criterion_values(predictions: Predictions, criterion: Criterion) -> list[NDArray[np.floating]]:
    """Take what a criterion compares after every stage but the last: S-1 arrays (N,) of one floating type.

    Values that rounding has put just outside the criterion's range are moved to its end, since no threshold lies there.

    Raises:
        AnalysisError: the table lacks a column.
    """
    columns = [getattr(answers, criterion.column) for answers in list(predictions.stages.values())[:-1]]
    if any(values is None for values in columns):
        raise AnalysisError(
            f"the predictions have no {criterion.column} column", "Use --criterion confidence, or evaluate again."
        )
    kind = np.result_type(*columns) if columns else np.dtype(np.float64)
    return [np.clip(values.astype(kind), 0.0, None if criterion.exits_below else 1.0) for values in columns]


def _count(
    predictions: Predictions,
    thresholds: NDArray[np.floating],
    answered: Callable[[int, NDArray[np.bool_]], NDArray[np.int64]],
) -> ExitCurve:
    """Make a curve of thresholds (P, S-1) and a function that counts, among chosen images (N,), those of a stage."""
    answers = list(predictions.stages.values())
    right = [each.prediction == predictions.labels for each in answers]
    hits = [each.top5 for each in answers if each.top5 is not None]
    everyone = np.ones(len(predictions), dtype=bool)

    def total(chosen: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
        """(P,) images that are chosen at the stage which answers them."""
        counts: NDArray[np.int64] = np.sum([answered(*each) for each in enumerate(chosen)], axis=0)
        return counts

    return ExitCurve(
        thresholds=thresholds,
        answered=np.stack([answered(stage, everyone) for stage in range(len(answers))], axis=1),
        correct=total(right),
        correct_top5=total(hits) if len(hits) == len(answers) else None,
        harmed=total([right[0] & ~each for each in right]),
        gained=total([~right[0] & each for each in right]),
        lost=total([right[-1] & ~each for each in right]),
        last_correct=int(right[-1].sum()),
        stage_macs=predictions.metadata.macs,
    )


def _as_given(rising: NDArray[np.floating], criterion: Criterion) -> NDArray[np.floating]:
    """Thresholds as the user gives them, from those that a high value reaches, infinite for no exit."""
    # An entropy exits strictly below its threshold: the next number above the value itself.
    given = np.nextafter(-rising, np.inf, dtype=rising.dtype) if criterion.exits_below else rising
    return np.where(np.isinf(rising), rising.dtype.type(criterion.no_exit), given)
