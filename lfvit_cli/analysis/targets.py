"""What a threshold is chosen for, and the choice by the estimates alone."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.analysis.exits import ExitCurve
from lfvit_cli.errors import AnalysisError, UnreachableTargetError
from lfvit_cli.records import Facts


class Aim(StrEnum):
    """What a threshold is chosen for."""

    BUDGET = "budget"
    MAX_DROP = "max_drop"
    MIN_ACCURACY = "min_accuracy"
    EXIT_RATE = "exit_rate"

    @property
    def is_cost(self) -> bool:
        """Whether early exits serve the aim, so that exiting always is the safe end; otherwise it is never exiting."""
        return self in {Aim.BUDGET, Aim.EXIT_RATE}


class Target(Facts):
    """An aim and its value: MACs for a budget, otherwise a share 0..1 (a drop of 0.5 points is 0.005)."""

    aim: Aim
    value: float


class Rule(StrEnum):
    """How a threshold is chosen: by what the images make certain, or by what they estimate."""

    CAUTIOUS = "cautious"
    POINT = "point"


def choose(curve: ExitCurve, target: Target) -> tuple[int, bool]:
    """Choose the row of a curve for a target by its estimates, and tell whether it reaches it.

    A budget takes the highest top-1 within it; every other aim the cheapest row that reaches it. Where no row does,
    the one closest to the target is taken. Such a row lies on the edge of its target, so other images miss it about
    as often as not.
    """
    values, wanted = _values(curve, target)
    reaching = np.flatnonzero(values >= wanted)
    if not len(reaching):
        return int(np.argmax(values)), False
    return best_of(curve, target, reaching), True


def best_of(curve: ExitCurve, target: Target, rows: NDArray[np.intp]) -> int:
    """Give the best of those rows (at least one, rising) that reach a target."""
    # Rows of a curve run from the cheapest, so the first of equals is the cheapest.
    if target.aim is Aim.BUDGET:
        return int(rows[np.argmax(curve.correct[rows])])
    return int(rows[-1] if target.aim is Aim.EXIT_RATE else rows[0])


def require_reachable(curve: ExitCurve, target: Target) -> None:
    """Raise UnreachableTargetError, with the range that thresholds do reach, where no row reaches a target."""
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
