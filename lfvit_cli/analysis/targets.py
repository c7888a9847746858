"""What a threshold is chosen for, and the choice: by the estimates alone, or with 95 % confidence.

The cautious choice tests thresholds in an order fixed beforehand, from the safe end of the curve (no exit for an
accuracy, all exits for a cost), each at 5 %, up to the first that fails. This is fixed-sequence testing (Maurer,
Hothorn and Lehmacher, 1995), as Learn then Test uses it to control a risk (Angelopoulos, Bates, Candes, Jordan and
Lei, 2021). To take a threshold that misses the target, the test of the first such threshold in the order must already
have erred: with however many thresholds, the chance of that is at most 5 %, and no correction is needed.

Each single test is a score test, whose 5 % are exact only as the number of images grows. The statement is about one
target, one sample, and further images like those of the sample.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.exits import ExitCurve, curve_at
from lfvit_cli.analysis.intervals import ONE_SIDED, paired_score, wilson
from lfvit_cli.errors import AnalysisError, UnreachableTargetError
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion
from lfvit_cli.records import Facts

# Of a front of more than two stages, at most so many rows are tested, evenly spaced.
MOST_TESTS = 100


class Aim(StrEnum):
    """What a threshold is chosen for."""

    BUDGET = "budget"
    MAX_DROP = "max_drop"
    MIN_ACCURACY = "min_accuracy"
    EXIT_RATE = "exit_rate"

    @property
    def is_cost(self) -> bool:
        """Whether more exits serve the aim, so that all exits are its safe end; otherwise that is no exit."""
        return self in {Aim.BUDGET, Aim.EXIT_RATE}


class Target(Facts):
    """An aim and its value: MACs for a budget, otherwise a share 0..1 (a drop of 0.5 points is 0.005)."""

    aim: Aim
    value: float

    @property
    def words(self) -> str:
        """What is asked for, such as ``drop ≤ 0.5 points``."""
        percent = f"{100 * self.value:.4g}"
        match self.aim:
            case Aim.BUDGET:
                return f"≤ {self.value / 1e9:.4g} GMACs"
            case Aim.MAX_DROP:
                return "no drop" if self.value == 0 else f"drop ≤ {percent} point{'' if percent == '1' else 's'}"
            case Aim.MIN_ACCURACY:
                return f"top-1 ≥ {percent} %"
            case Aim.EXIT_RATE:
                return f"exit rate ≥ {percent} %"


class Rule(StrEnum):
    """How a threshold is chosen: cautiously, with 95 % confidence, or by the point estimates alone."""

    CAUTIOUS = "cautious"
    POINT = "point"


def choose(curve: ExitCurve, target: Target) -> tuple[int, bool]:
    """Choose the row of a curve for a target by its estimates, see `best_of`; also whether that row reaches the target.

    Where no row does, the closest is taken. The row chosen lies on the edge of its target, which other images therefore
    miss about as often as not.
    """
    values, wanted = _values(curve, target)
    reaching = np.flatnonzero(values >= wanted)
    if not len(reaching):
        return int(np.argmax(values)), False
    return best_of(curve, target, reaching), True


def best_of(curve: ExitCurve, target: Target, rows: NDArray[np.intp]) -> int:
    """Choose among the rows, at least one and rising, that reach a target.

    A budget takes the highest top-1, an exit rate the row with the fewest exits, every other aim the cheapest row.
    """
    # Rows of a curve run from the cheapest, so the first of equals is the cheapest.
    if target.aim is Aim.BUDGET:
        return int(rows[np.argmax(curve.correct[rows])])
    return int(rows[-1] if target.aim is Aim.EXIT_RATE else rows[0])


def require_reachable(curve: ExitCurve, target: Target) -> None:
    """Raise UnreachableTargetError, which names the range that thresholds do reach, where no row reaches a target."""
    values, wanted = _values(curve, target)
    if (values >= wanted).any():
        return
    low, high = sorted((float(values.min()), float(values.max())))
    match target.aim:
        case Aim.BUDGET:
            asked, reach = f"{target.value / 1e9:.3f} GMACs", f"{-high / 1e9:.3f} to {-low / 1e9:.3f} GMACs"
        case Aim.MAX_DROP:
            asked, reach = f"{100 * target.value:.2f} points", f"{-100 * high:.2f} to {-100 * low:.2f} points"
        case _:
            asked, reach = f"{100 * target.value:.2f} %", f"{100 * low:.2f} to {100 * high:.2f} %"
    option = target.aim.replace("_", "-")
    raise UnreachableTargetError(f"no threshold can meet --{option} {asked}", f"The reachable range is {reach}.")


def _values(curve: ExitCurve, target: Target) -> tuple[NDArray[np.float64], float]:
    """(P,) values, and the least that meets the target; what should be low is negated."""
    match target.aim:
        case Aim.BUDGET:
            if curve.macs is None:
                raise AnalysisError("a budget needs MACs, which these predictions lack", "Give them with --macs.")
            return -curve.macs, -target.value
        case Aim.MAX_DROP:
            return (curve.correct - curve.last_correct) / curve.images, -target.value
        case Aim.MIN_ACCURACY:
            return curve.top1, target.value
        case Aim.EXIT_RATE:
            return curve.exit_rate, target.value


def choose_certain(curve: ExitCurve, target: Target) -> int | None:
    """Choose, see `best_of`, among the rows of a curve that meet a target with 95 % confidence; None without any.

    That no exit loses nothing needs no images: where that row alone is within a drop, None is returned.

    Args:
        curve: with thresholds fixed without regard to its counts, or all thresholds of two stages.
        target: what to choose for.
    """
    holds = _certain(curve, target)
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

    The front of more than two stages depends on the images it was found on, so only others can test it (Laufer-
    Goldshtein, Fisch, Barzilay and Jaakkola, Efficiently controlling multiple risks with Pareto testing, 2023).
    """
    rows = np.unique(np.linspace(0, len(front) - 1, MOST_TESTS).round().astype(int))
    return curve_at(predictions, front.thresholds[rows], criterion)


def _certain(curve: ExitCurve, target: Target) -> NDArray[np.bool_]:
    """(P,) whether the one-sided 95 % bound of each row meets the target."""
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
    """Each row's expected MACs (P,), and a budget, from 0 for the first stage alone to 1 for all stages."""
    steps = np.cumsum(np.array(stage_macs))
    span = steps[-1] - steps[0]
    return curve.answered @ ((steps - steps[0]) / span) / curve.images, float((budget - steps[0]) / span)
