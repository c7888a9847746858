"""The area under an accuracy-against-cost curve, between what chance and an oracle reach."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lfvit_cli.analysis.exits import ExitCurve
from lfvit_cli.analysis.references import ReferencePoint
from lfvit_cli.records import Facts


class Area(Facts):
    """Mean top-1 over all budgets, from the first stage alone to every stage for every image.

    The cost axis is the share of the MACs beyond the first stage's that is spent: 0 where every image stops at the
    first stage, 1 where none stops early. So the area under top-1 is a mean top-1, and networks of different cost
    compare. With two stages the axis is 1 - exit rate, whatever the MACs.

    Attributes:
        curve: area of the exit curve.
        random: area of exits drawn by lot.
        oracle: area of the best exits there can be.
        share_of_oracle: how much of what the oracle gains over chance the curve gains; None where that is nothing.
    """

    curve: float
    random: float
    oracle: float
    share_of_oracle: float | None


def area_under(curve: ExitCurve, oracle: Sequence[ReferencePoint], random: Sequence[ReferencePoint]) -> Area:
    """Compare the area under a curve of two or more stages with those of its references."""
    costs = _spent(curve.exit_rate, curve.macs, curve.stage_macs)
    exits = _mean_height(costs, curve.top1)
    lot, best = (
        _mean_height(
            _spent([p.exit_rate for p in points], [p.macs or 0.0 for p in points], curve.stage_macs),
            [p.top1 for p in points],
        )
        for points in (random, oracle)
    )
    return Area(
        curve=exits,
        random=lot,
        oracle=best,
        share_of_oracle=(exits - lot) / (best - lot) if best > lot else None,
    )


def _spent(exit_rate: ArrayLike, macs: ArrayLike | None, stage_macs: tuple[int, ...] | None) -> ArrayLike:
    if macs is None or stage_macs is None:
        return 1.0 - np.asarray(exit_rate)
    first, every = stage_macs[0], sum(stage_macs)
    return (np.asarray(macs) - first) / (every - first)


def _mean_height(costs: ArrayLike, top1: ArrayLike) -> float:
    """Integrate by trapezia from 0 to 1; beyond the last point more cost buys nothing."""
    x, y = np.asarray(costs), np.asarray(top1)
    return float(np.trapezoid(np.append(y, y[-1]), np.append(x, 1.0)))
