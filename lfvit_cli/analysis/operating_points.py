"""Exit thresholds that can be trusted: chosen on one half of the images, reported on the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.errors import AnalysisError, UnreachableTargetError
from lfvit_cli.analysis.exits import Criterion, ExitCurve, exit_curve, simulate
from lfvit_cli.analysis.intervals import Estimate, bootstrap_mean, paired_difference, share
from lfvit_cli.measure.predictions_table import Predictions
from lfvit_cli.measure.record import Facts


class Aim(StrEnum):
    """What a threshold is chosen for."""

    BUDGET = "budget"
    MAX_DROP = "max_drop"
    MIN_ACCURACY = "min_accuracy"
    EXIT_RATE = "exit_rate"


class Target(Facts):
    """An aim and its value: MACs for a budget, otherwise a share 0..1 (a drop of 0.5 points is 0.005)."""

    aim: Aim
    value: float


class Verdict(StrEnum):
    """Whether the held-out images show that the target is met, by the 95 % interval."""

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

    Of all splits it is the one whose threshold is the median. The spreads are over all splits.

    Attributes:
        thresholds: one for every stage but the last.
        images: size of the held-out half.
        exit_rate, top1: with Wilson's interval.
        macs: expected MACs of one image, with the bootstrap interval; None if unknown.
        difference: top-1 less that of the last stage alone on the same images, with the paired bootstrap interval.
        met_splits: share of the splits whose held-out half meets the target.
        reachable_splits: share of the splits whose calibration half could reach the target at all.
    """

    target: Target
    thresholds: tuple[float, ...]
    images: int
    exit_rate: Estimate
    top1: Estimate
    macs: Estimate | None
    difference: Estimate
    verdict: Verdict
    splits: int
    met_splits: float
    reachable_splits: float
    threshold_spread: tuple[Spread, ...]
    exit_rate_spread: Spread
    top1_spread: Spread
    macs_spread: Spread | None


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """What one split's threshold does on its held-out half.

    Attributes:
        answered: (S,) images that each stage answers.
        last_correct: images that the last stage alone has right.
        gained: images right only with the early exit; lost: only with the last stage.
    """

    thresholds: tuple[float, ...]
    reachable: bool
    answered: NDArray[np.int64]
    correct: int
    last_correct: int
    gained: int
    lost: int
    stage_macs: tuple[int, ...] | None

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
    repeats: int = 20,
    seed: int = 0,
) -> tuple[OperatingPoint, ...]:
    """Choose a threshold for each target on a calibration half and report it on the other half.

    Args:
        predictions: of a network with two or more stages, all labelled.
        targets: what to choose a threshold for, one each.
        criterion: what exits are decided by.
        repeats: number of random splits, each stratified by class.
        seed: of the splits and of the bootstrap.

    Raises:
        UnreachableTargetError: no threshold reaches the target even on all images.
        AnalysisError: fewer than two stages or images, or a budget where the MACs are unknown.
    """
    if len(predictions.stages) < 2:
        raise AnalysisError("a network with one stage has no exit", "Choose a threshold for an early-exit network.")
    if len(predictions) < 2:
        raise AnalysisError("one image cannot be split into two halves", "Evaluate more images.")
    whole = exit_curve(predictions, criterion)
    for target in targets:
        _require_reachable(whole, target)
    rng = np.random.default_rng(seed)
    held_out: list[list[_HeldOut]] = [[] for _ in targets]
    for _ in range(repeats):
        calibration, rest = (predictions.take(rows) for rows in split_halves(predictions.labels, rng))
        curve = exit_curve(calibration, criterion)
        for target, outcomes in zip(targets, held_out, strict=True):
            outcomes.append(_report(rest, curve, target, criterion))
    return tuple(_summary(target, outcomes, rng) for target, outcomes in zip(targets, held_out, strict=True))


def split_halves(labels: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows (N,) at random into halves that hold every class equally, to within one image.

    A class of one image, which library splitters refuse, goes to either half.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return order[::2], order[1::2]


def choose(curve: ExitCurve, target: Target) -> tuple[int, bool]:
    """Choose the row of a curve for a target, and tell whether it reaches it.

    A budget takes the highest top-1 within it; every other aim the cheapest row that reaches it. Where no row does,
    the one closest to the target is taken.
    """
    values, wanted = _values(curve, target)
    reaching = np.flatnonzero(values >= wanted)
    if not len(reaching):
        return int(np.argmax(values)), False
    # Rows of a curve run from the cheapest, so the first of equals is the cheapest.
    if target.aim is Aim.BUDGET:
        return int(reaching[np.argmax(curve.correct[reaching])]), True
    return int(reaching[-1] if target.aim is Aim.EXIT_RATE else reaching[0]), True


def _values(curve: ExitCurve, target: Target) -> tuple[NDArray[np.float64], float]:
    """Give for each row a value that must reach the second: costs are negated."""
    match target.aim:
        case Aim.BUDGET:
            if curve.macs is None:
                raise AnalysisError("a budget needs MACs, which these predictions do not tell", "Give them as --macs.")
            return -curve.macs, -target.value
        case Aim.MAX_DROP:
            return (curve.correct - curve.last_correct) / curve.images, -target.value
        case Aim.MIN_ACCURACY:
            return curve.top1, target.value
        case Aim.EXIT_RATE:
            return curve.exit_rate, target.value


def _require_reachable(curve: ExitCurve, target: Target) -> None:
    values, wanted = _values(curve, target)
    if (values >= wanted).any():
        return
    low, high = sorted((float(values.min()), float(values.max())))
    match target.aim:
        case Aim.BUDGET:
            asked, reach = f"{target.value / 1e9:.3f} GMACs", f"{-high / 1e9:.3f} to {-low / 1e9:.3f} GMACs"
        case Aim.MAX_DROP:
            asked, reach = f"a drop of {100 * target.value:.2f} points", f"{-100 * high:.2f} to {-100 * low:.2f} points"
        case _:
            asked, reach = f"{100 * target.value:.2f} %", f"{100 * low:.2f} to {100 * high:.2f} %"
    option = target.aim.replace("_", "-")
    raise UnreachableTargetError(f"no threshold reaches --{option} {asked}", f"The reachable range is {reach}.")


def _report(rest: Predictions, curve: ExitCurve, target: Target, criterion: Criterion) -> _HeldOut:
    row, reachable = choose(curve, target)
    thresholds = tuple(float(threshold) for threshold in curve.thresholds[row])
    outcome = simulate(rest, thresholds, criterion)
    last = list(rest.stages.values())[-1].prediction == rest.labels
    return _HeldOut(
        thresholds=thresholds,
        reachable=reachable,
        answered=np.bincount(outcome.stage, minlength=len(rest.stages)),
        correct=int(outcome.correct.sum()),
        last_correct=int(last.sum()),
        gained=int((outcome.correct & ~last).sum()),
        lost=int((last & ~outcome.correct).sum()),
        stage_macs=rest.metadata.macs,
    )


def _summary(target: Target, outcomes: list[_HeldOut], rng: np.random.Generator) -> OperatingPoint:
    order = sorted(range(len(outcomes)), key=lambda split: outcomes[split].thresholds)
    middle = outcomes[order[(len(order) - 1) // 2]]
    exit_rate = share(middle.images - int(middle.answered[-1]), middle.images)
    top1 = share(middle.correct, middle.images)
    costs = middle.stage_macs
    macs = None if costs is None else bootstrap_mean(np.cumsum(costs), middle.answered, rng)
    difference = paired_difference(middle.gained, middle.lost, middle.images, rng)
    return OperatingPoint(
        target=target,
        thresholds=middle.thresholds,
        images=middle.images,
        exit_rate=exit_rate,
        top1=top1,
        macs=macs,
        difference=difference,
        verdict=_verdict(target, exit_rate, top1, macs, difference),
        splits=len(outcomes),
        met_splits=sum(outcome.meets(target) for outcome in outcomes) / len(outcomes),
        reachable_splits=sum(outcome.reachable for outcome in outcomes) / len(outcomes),
        threshold_spread=tuple(_spread(column) for column in zip(*(o.thresholds for o in outcomes), strict=True)),
        exit_rate_spread=_spread([outcome.exit_rate for outcome in outcomes]),
        top1_spread=_spread([outcome.top1 for outcome in outcomes]),
        macs_spread=None if costs is None else _spread([outcome.macs or 0.0 for outcome in outcomes]),
    )


def _verdict(
    target: Target, exit_rate: Estimate, top1: Estimate, macs: Estimate | None, difference: Estimate
) -> Verdict:
    match target.aim:
        case Aim.BUDGET if macs is not None:
            low, high, wanted = -macs.high, -macs.low, -target.value
        case Aim.MAX_DROP:
            low, high, wanted = difference.low, difference.high, -target.value
        case Aim.MIN_ACCURACY:
            low, high, wanted = top1.low, top1.high, target.value
        case _:
            low, high, wanted = exit_rate.low, exit_rate.high, target.value
    if low >= wanted:
        return Verdict.MET
    return Verdict.MISSED if high < wanted else Verdict.UNDECIDED


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=float(np.median(values)), low=min(values), high=max(values))
