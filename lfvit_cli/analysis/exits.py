"""The exact early-exit curve: what every threshold would have answered, and at what cost."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.errors import AnalysisError
from lfvit_cli.evaluation.table import Predictions, StageAnswers
from lfvit_cli.policies import Criterion

# With more than two stages every combination of thresholds is tried, on a grid of at most this many of them.
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
        return ExitCurve(
            self.thresholds[rows],
            self.answered[rows],
            self.correct[rows],
            None if self.correct_top5 is None else self.correct_top5[rows],
            self.harmed[rows],
            self.gained[rows],
            self.lost[rows],
            self.last_correct,
            self.stage_macs,
        )

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


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an early exit does with each of N images.

    Attributes:
        stage: (N,) index of the stage that answers.
        prediction: (N,) class index.
        correct: (N,) whether the answer is the label.
        macs: (N,) MACs spent; None if unknown.
    """

    stage: NDArray[np.int64]
    prediction: NDArray[np.int64]
    correct: NDArray[np.bool_]
    macs: NDArray[np.int64] | None


def simulate(
    predictions: Predictions, thresholds: tuple[float, ...], criterion: Criterion = Criterion.CONFIDENCE
) -> Outcome:
    """Decide image by image: the first stage that reaches its threshold answers, otherwise the last.

    The thresholds are one for every stage but the last.
    """
    answers = list(predictions.stages.values())
    stage = np.full(len(predictions), len(answers) - 1)
    prediction = answers[-1].prediction.copy()
    for index in reversed(range(len(answers) - 1)):
        exits = criterion.exits(criterion_values(answers[index], criterion), thresholds[index])
        stage[exits] = index
        prediction[exits] = answers[index].prediction[exits]
    macs = predictions.metadata.macs
    return Outcome(
        stage=stage,
        prediction=prediction,
        correct=prediction == predictions.labels,
        macs=None if macs is None else np.cumsum(macs)[stage],
    )


def exit_curve(
    predictions: Predictions, criterion: Criterion = Criterion.CONFIDENCE, *, most_combinations: int = MOST_COMBINATIONS
) -> ExitCurve:
    """Trace top-1 against cost over all exit thresholds.

    Two stages: every distinct value of the criterion is a threshold, and "no exit" one more. Each row is exactly what
    `simulate` counts at it. One stage: a single row without a threshold.

    More stages: every combination of thresholds, one a stage, out of all distinct values if there are at most
    `most_combinations` of them, otherwise out of equally many quantiles a stage; each row is exact, and only the
    Pareto front is kept: the rows that no other row matches in top-1 at lower or equal expected MACs.

    Raises:
        AnalysisError: a column that the criterion needs is missing, or the MACs of more than two stages are unknown.
    """
    stages = list(predictions.stages.values())
    axes = [_candidates(answers, criterion, most_combinations, len(stages) - 1) for answers in stages[:-1]]
    # An image exits at candidate j of its stage when j < level: the counts are cumulative histograms of the levels.
    levels = [
        np.searchsorted(axis, _rising(answers, criterion), side="right")
        for axis, answers in zip(axes, stages[:-1], strict=True)
    ]
    joint = _Joint(levels, tuple(len(axis) + 1 for axis in axes))

    first = stages[0].prediction == predictions.labels
    right = [answers.prediction == predictions.labels for answers in stages]
    hits = [answers.top5 for answers in stages if answers.top5 is not None]
    everyone = np.ones(len(predictions), dtype=bool)
    curve = ExitCurve(
        thresholds=_threshold_rows(axes, criterion),
        answered=np.stack([joint.count_at(index, everyone) for index in range(len(stages))], axis=1),
        correct=joint.count(right),
        correct_top5=joint.count(hits) if len(hits) == len(stages) else None,
        harmed=joint.count([first & ~answer for answer in right]),
        gained=joint.count([~first & answer for answer in right]),
        lost=joint.count([right[-1] & ~answer for answer in right]),
        last_correct=int(right[-1].sum()),
        stage_macs=predictions.metadata.macs,
    )
    return curve if len(stages) <= 2 else pareto_front(curve)


def pareto_front(curve: ExitCurve) -> ExitCurve:
    """Keep the rows that no other row matches in top-1 at lower or equal expected MACs, the cheapest first.

    Raises:
        AnalysisError: the MACs are unknown.
    """
    macs = curve.macs
    if macs is None:
        raise AnalysisError("the MACs of the stages are unknown", "Give them: more than two stages are traded by cost.")
    order = np.lexsort((-curve.correct, macs))
    best = np.maximum.accumulate(curve.correct[order])
    rises = np.concatenate(([True], best[1:] > best[:-1]))
    return curve[order[rises]]


def criterion_values(answers: StageAnswers, criterion: Criterion) -> NDArray[np.floating]:
    """Take the column that the criterion reads.

    Raises:
        AnalysisError: the table lacks it.
    """
    values: NDArray[np.floating] | None = getattr(answers, criterion.column)
    if values is None:
        raise AnalysisError(
            f"the predictions have no {criterion.column} column", "Use --criterion confidence, or evaluate again."
        )
    return values


def _rising(answers: StageAnswers, criterion: Criterion) -> NDArray[np.floating]:
    """Turn the criterion so that a high value exits."""
    values = criterion_values(answers, criterion)
    return -values if criterion.exits_below else values


def _candidates(answers: StageAnswers, criterion: Criterion, most: int, axes: int) -> NDArray[np.floating]:
    distinct: NDArray[np.floating] = np.unique(_rising(answers, criterion))
    if axes == 1:
        return distinct
    room = int(most ** (1 / axes)) - 1
    if len(distinct) <= room:
        return distinct
    kept: NDArray[np.floating] = distinct[np.linspace(0, len(distinct) - 1, room).round().astype(int)]
    return kept


def _threshold_rows(axes: list[NDArray[np.floating]], criterion: Criterion) -> NDArray[np.floating]:
    """Combine the candidates of every stage, and no exit, into (P, S-1) thresholds as the user writes them."""
    columns = [np.append(_thresholds(axis, criterion), axis.dtype.type(criterion.no_exit)) for axis in axes]
    rows = [grid.ravel() for grid in np.meshgrid(*columns, indexing="ij")]
    return np.stack(rows, axis=1) if rows else np.empty((1, 0))


def _thresholds(rising: NDArray[np.floating], criterion: Criterion) -> NDArray[np.floating]:
    """The thresholds at which exactly the images with at least these rising values exit."""
    # Strictly below: the next number above the value itself.
    return np.nextafter(-rising, np.inf, dtype=rising.dtype) if criterion.exits_below else rising


@dataclass(frozen=True, eq=False)
class _Joint:
    """Counts images at every combination of thresholds, by cumulative histograms of their exit levels.

    Attributes:
        levels: S-1 arrays (N,): how many candidates of that stage the image reaches.
        shape: number of candidates a stage, no exit included.
    """

    levels: list[NDArray[np.intp]]
    shape: tuple[int, ...]

    def count(self, chosen: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
        """(P,) images that are chosen at the stage which answers them."""
        counts: NDArray[np.int64] = np.sum([self.count_at(stage, mask) for stage, mask in enumerate(chosen)], axis=0)
        return counts

    def count_at(self, stage: int, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(P,) images of the mask that this stage answers: those that reach it, less those that go on."""
        answered = self._reaching(stage, mask)
        if stage < len(self.shape):
            answered = answered - self._reaching(stage + 1, mask)
        return np.broadcast_to(answered, self.shape).ravel()

    def _reaching(self, stage: int, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Images of the mask that no earlier stage answers: every earlier level is at most the candidate's index."""
        shape = self.shape[:stage]
        if not shape:
            return np.full([1] * len(self.shape), np.count_nonzero(mask))
        cells = np.ravel_multi_index([level[mask] for level in self.levels[:stage]], shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
        for axis in range(stage):
            counts = counts.cumsum(axis=axis)
        return counts.reshape(*shape, *[1] * (len(self.shape) - stage))
