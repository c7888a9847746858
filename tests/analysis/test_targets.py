"""Tests of analysis/targets.py."""

import numpy as np
import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.exits import exit_curve
from lfvit_cli.analysis.targets import Aim, Target, choose, require_reachable
from lfvit_cli.errors import UnreachableTargetError


def target(aim: Aim, value: float) -> Target:
    """Shorten a target."""
    return Target(aim=aim, value=value)


def test_choice_is_the_best_row() -> None:
    """Each aim takes the row that a search over all rows finds."""
    curve = exit_curve(random_predictions(300))
    assert curve.macs is not None
    row, reachable = choose(curve, target(Aim.BUDGET, 2.4e9))
    assert reachable
    assert curve.macs[row] <= 2.4e9
    assert curve.top1[row] == curve.top1[curve.macs <= 2.4e9].max()

    row, reachable = choose(curve, target(Aim.MAX_DROP, 0.01))
    allowed = curve.correct >= curve.last_correct - 3
    assert reachable
    assert curve.macs[row] == curve.macs[allowed].min()

    row, reachable = choose(curve, target(Aim.MIN_ACCURACY, 0.75))
    assert reachable
    assert curve.macs[row] == curve.macs[curve.top1 >= 0.75].min()

    row, reachable = choose(curve, target(Aim.EXIT_RATE, 0.6))
    assert reachable
    assert curve.exit_rate[row] == curve.exit_rate[curve.exit_rate >= 0.6].min()


def test_choice_comes_as_close_as_it_can() -> None:
    """Where no row of a half reaches the target, the closest is taken, and said not to reach it."""
    curve = exit_curve(random_predictions(300))
    assert choose(curve, target(Aim.MIN_ACCURACY, 1.0)) == (int(np.argmax(curve.correct)), False)


@pytest.mark.parametrize(
    ("aim", "value", "said"),
    [
        (Aim.BUDGET, 1e9, r"--budget 1.000 GMACs. The reachable range is 1.102 to 3.811 GMACs"),
        (Aim.MIN_ACCURACY, 0.999, r"--min-accuracy 99.90 %. The reachable range is \d+.\d\d to \d+.\d\d %"),
        (
            Aim.MAX_DROP,
            -0.9,
            r"--max-drop a drop of -90.00 points. The reachable range is -?\d+.\d\d to \d+.\d\d points",
        ),
    ],
)
def test_impossible_targets_say_what_is_possible(aim: Aim, value: float, said: str) -> None:
    """A target that no threshold reaches names the range that thresholds do reach."""
    with pytest.raises(UnreachableTargetError, match=said):
        require_reachable(exit_curve(random_predictions(100)), target(aim, value))
