"""Exit thresholds that can be trusted: chosen on one half of the images, reported on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lfvit_cli.analysis.exits import ExitCurve, exit_curve, simulate
from lfvit_cli.analysis.intervals import Estimate, bootstrap_mean, paired_difference, share
from lfvit_cli.analysis.targets import Aim, Rule, Target, choose, choose_certain, counted_at, require_reachable
from lfvit_cli.errors import AnalysisError
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion
from lfvit_cli.records import Facts

# Combinations of thresholds tried in each of many splits, with more than two stages.
_COMBINATIONS = 100_000


class Verdict(StrEnum):
    """Whether the images show, with 95 % confidence, that the target is met.

    It is met where the held-out interval lies within the target, or where the calibration half certifies the threshold
    and the held-out estimate agrees. It is missed where that interval lies beyond it, and otherwise undecided.
    """

    MET = "met"
    UNDECIDED = "undecided"
    MISSED = "missed"


class Spread(Facts):
    """Median and range of a value over the splits."""

    median: float
    low: float
    high: float


class OperatingPoint(Facts):
    """A threshold chosen on a calibration half, and what it does on the held-out half of the same split.

    It comes from the split with the median threshold. The spreads are over all splits that chose by the same rule.

    Attributes:
        thresholds: one for every stage but the last.
        certified: whether the calibration half shows that the threshold meets the target: of all such statements on one
            split at most 5 % are wrong (see `targets`). The median split is wrong only where half of all splits are: at
            most twice as often, however they depend on each other, and in practice less often. False where the estimate
            alone chose, because that was asked for or because too few splits could certify a threshold.
        certified_splits: share of the splits that could certify a threshold; None where no certificate was asked for.
        images: size of the held-out half.
        exit_rate, top1: with Wilson's interval.
        macs: expected MACs of one image, with the bootstrap interval; None if unknown.
        difference: top-1 less that of the last stage alone on the same images, with the paired bootstrap interval.
        against: top-1 less that of each rival on the same images, likewise.
        splits: number of splits that chose by the same rule.
        met_splits: share of these whose held-out half meets the target.
        reachable_splits: share of all splits in which some threshold meets the target on the calibration half.
    """

    target: Target
    thresholds: tuple[float, ...]
    certified: bool
    certified_splits: float | None
    images: int
    exit_rate: Estimate
    top1: Estimate
    macs: Estimate | None
    difference: Estimate
    against: dict[str, Estimate] = Field(default_factory=dict)
    verdict: Verdict
    splits: int
    met_splits: float
    reachable_splits: float
    threshold_spread: tuple[Spread, ...]
    exit_rate_spread: Spread
    top1_spread: Spread
    macs_spread: Spread | None


@dataclass(frozen=True, eq=False)
class _Split:
    """One random split.

    Attributes:
        curve: of the calibration half.
        testable: the rows whose counts can certify them: with two stages the same curve.
        rest: the held-out half.
        rivals: for each rival, which of its answers to that half are right.
    """

    curve: ExitCurve
    testable: ExitCurve
    rest: Predictions
    rivals: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """What one split's threshold does on its held-out half.

    Attributes:
        answered: (S,) images that each stage answers.
        last_correct: images that the last stage alone has right.
        gained: images right only with the early exit; lost: only with the last stage.
        against: the same two numbers for each rival.
    """

    thresholds: tuple[float, ...]
    answered: NDArray[np.int64]
    correct: int
    last_correct: int
    gained: int
    lost: int
    stage_macs: tuple[int, ...] | None
    against: dict[str, tuple[int, int]]

    @property
    def images(self) -> int:
        return int(self.answered.sum())

    @property
    def exit_rate(self) -> float:
        return float((self.images - self.answered[-1]) / self.images)

    @property
    def top1(self) -> float:
        return self.correct / self.images

    @property
    def macs(self) -> float | None:
        return None if self.stage_macs is None else float(self.answered @ np.cumsum(self.stage_macs) / self.images)

    def meets(self, target: Target) -> bool:
        match target.aim:
            case Aim.BUDGET:
                return self.macs is not None and self.macs <= target.value
            case Aim.MAX_DROP:
                return (self.last_correct - self.correct) / self.images <= target.value
            case Aim.MIN_ACCURACY:
                return self.top1 >= target.value
            case Aim.EXIT_RATE:
                return self.exit_rate >= target.value


def operating_points(
    predictions: Predictions,
    targets: tuple[Target, ...],
    criterion: Criterion = Criterion.CONFIDENCE,
    *,
    rule: Rule = Rule.CAUTIOUS,
    repeats: int = 20,
    seed: int = 0,
    rivals: Mapping[str, NDArray[np.bool_]] | None = None,
) -> tuple[OperatingPoint, ...]:
    """Choose a threshold for each target on a calibration half and report it on the other half.

    The cautious rule takes a threshold that the calibration half certifies (see `targets`). Where half of the splits or
    more can certify none, the point rule chooses instead, and the point is not `certified`.

    Args:
        predictions: of a network with two or more stages, all labelled.
        targets: what to choose a threshold for, one each.
        criterion: what exits are decided by.
        rule: how to choose.
        repeats: number of random splits, each stratified by class.
        seed: of the splits and of the bootstrap.
        rivals: for each network to compare with, (N,) whether it is right about each image.

    Raises:
        UnreachableTargetError: no threshold meets a target even on all images.
        AnalysisError: fewer than two stages or images, or a budget where the MACs are unknown.
    """
    if len(predictions.stages) < 2:
        raise AnalysisError("a network with one stage has no exit", "Choose a threshold for an early-exit network.")
    if len(predictions) < 2:
        raise AnalysisError("one image cannot be split into two halves", "Evaluate more images.")
    whole = exit_curve(predictions, criterion)
    for target in targets:
        require_reachable(whole, target)
    rng = np.random.default_rng(seed)
    splits = [_split(predictions, criterion, rule, rng, rivals or {}) for _ in range(repeats)]
    return tuple(_operating_point(target, splits, criterion, rule, rng) for target in targets)


def split_halves(labels: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows (N,) at random into halves that share every class, and all rows, to within one image."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return order[::2], order[1::2]


def _split(
    predictions: Predictions,
    criterion: Criterion,
    rule: Rule,
    rng: np.random.Generator,
    rivals: Mapping[str, NDArray[np.bool_]],
) -> _Split:
    calibrating, held_out = split_halves(predictions.labels, rng)
    calibration, rest = predictions.take(calibrating), predictions.take(held_out)
    curve = testable = exit_curve(calibration, criterion, most_combinations=_COMBINATIONS)
    if rule is Rule.CAUTIOUS and len(predictions.stages) > 2 and len(calibration) > 1:
        found, tested = (calibration.take(rows) for rows in split_halves(calibration.labels, rng))
        testable = counted_at(tested, exit_curve(found, criterion, most_combinations=_COMBINATIONS), criterion)
    return _Split(curve, testable, rest, {name: correct[held_out] for name, correct in rivals.items()})


def _operating_point(
    target: Target, splits: Sequence[_Split], criterion: Criterion, rule: Rule, rng: np.random.Generator
) -> OperatingPoint:
    """Choose in every split, by the estimates where too few splits certify a threshold, and report the median."""
    estimated = [choose(split.curve, target) for split in splits]
    certain = [choose_certain(split.testable, target) for split in splits] if rule is Rule.CAUTIOUS else []
    chosen = [
        _report(split, split.testable.thresholds[row], criterion)
        for split, row in zip(splits, certain, strict=False)
        if row is not None
    ]
    certified = len(chosen) > len(splits) // 2
    if not certified:
        chosen = [
            _report(split, split.curve.thresholds[row], criterion)
            for split, (row, _) in zip(splits, estimated, strict=True)
        ]
    # The laxest first: a split that certifies nothing counts as stricter than all.
    chosen.sort(key=lambda outcome: outcome.thresholds, reverse=target.aim.is_cost is not criterion.exits_below)
    return OperatingPoint(
        target=target,
        certified=certified,
        certified_splits=sum(row is not None for row in certain) / len(splits) if certain else None,
        reachable_splits=sum(reached for _, reached in estimated) / len(splits),
        **_held_out_facts(target, chosen[len(splits) // 2], certified, rng),
        **_spreads(target, chosen),
    )


def _report(split: _Split, row: NDArray[np.floating], criterion: Criterion) -> _HeldOut:
    rest = split.rest
    thresholds = tuple(float(threshold) for threshold in row)
    outcome = simulate(rest, thresholds, criterion)
    last = list(rest.stages.values())[-1].prediction == rest.labels
    return _HeldOut(
        thresholds=thresholds,
        answered=np.bincount(outcome.stage, minlength=len(rest.stages)),
        correct=int(outcome.correct.sum()),
        last_correct=int(last.sum()),
        gained=int((outcome.correct & ~last).sum()),
        lost=int((last & ~outcome.correct).sum()),
        stage_macs=rest.metadata.macs,
        against={
            name: (int((outcome.correct & ~theirs).sum()), int((theirs & ~outcome.correct).sum()))
            for name, theirs in split.rivals.items()
        },
    )


def _held_out_facts(target: Target, shown: _HeldOut, certified: bool, rng: np.random.Generator) -> dict[str, Any]:
    """Estimate what the shown split's threshold does, and judge it."""
    exit_rate = share(shown.images - int(shown.answered[-1]), shown.images)
    top1 = share(shown.correct, shown.images)
    costs = shown.stage_macs
    macs = None if costs is None else bootstrap_mean(np.cumsum(costs), shown.answered, rng)
    difference = paired_difference(shown.gained, shown.lost, shown.images, rng)
    aimed = {Aim.BUDGET: macs, Aim.MAX_DROP: difference, Aim.MIN_ACCURACY: top1, Aim.EXIT_RATE: exit_rate}[target.aim]
    return {
        "thresholds": shown.thresholds,
        "images": shown.images,
        "exit_rate": exit_rate,
        "top1": top1,
        "macs": macs,
        "difference": difference,
        "against": {
            name: paired_difference(gained, lost, shown.images, rng) for name, (gained, lost) in shown.against.items()
        },
        "verdict": _verdict(target, aimed, agrees=certified and shown.meets(target)),
    }


def _verdict(target: Target, aimed: Estimate | None, *, agrees: bool) -> Verdict:
    """Judge by the held-out interval of what the target limits, or by a certificate that the estimate confirms."""
    if aimed is None:
        return Verdict.UNDECIDED
    if target.aim is Aim.BUDGET:
        met, missed = aimed.high <= target.value, aimed.low > target.value
    else:
        least = -target.value if target.aim is Aim.MAX_DROP else target.value
        met, missed = aimed.low >= least, aimed.high < least
    if met or agrees:
        return Verdict.MET
    return Verdict.MISSED if missed else Verdict.UNDECIDED


def _spreads(target: Target, chosen: Sequence[_HeldOut]) -> dict[str, Any]:
    macs = [outcome.macs for outcome in chosen if outcome.macs is not None]
    return {
        "splits": len(chosen),
        "met_splits": sum(outcome.meets(target) for outcome in chosen) / len(chosen),
        "threshold_spread": tuple(_spread(column) for column in zip(*(o.thresholds for o in chosen), strict=True)),
        "exit_rate_spread": _spread([outcome.exit_rate for outcome in chosen]),
        "top1_spread": _spread([outcome.top1 for outcome in chosen]),
        "macs_spread": _spread(macs) if macs else None,
    }


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=float(np.median(values)), low=min(values), high=max(values))
