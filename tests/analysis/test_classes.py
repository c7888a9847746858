"""Tests of analysis/classes.py."""

import pytest
from made_predictions import predictions, random_predictions

from lfvit_cli.analysis.classes import class_outcomes
from lfvit_cli.analysis.exits import exit_curve


def test_classes_add_up_to_the_curve() -> None:
    """Weighted by images, the classes give the curve's exit rate and top-1, and every image is counted once."""
    table = random_predictions(500)
    curve = exit_curve(table)
    row = len(curve) // 2
    outcomes = class_outcomes(table, tuple(curve.thresholds[row].tolist()))
    assert sum(each.images for each in outcomes) == 500
    assert sum(each.images * each.exit_rate for each in outcomes) / 500 == pytest.approx(curve.exit_rate[row])
    assert sum(each.images * each.top1 for each in outcomes) / 500 == pytest.approx(curve.top1[row])
    changes = [each.change for each in outcomes]
    assert changes == sorted(changes)


def test_the_class_that_loses_is_named_first() -> None:
    """A class whose wrong answers exit stands first, with its loss; classes without images are left out."""
    table = predictions(
        labels=[0, 0, 3, 3],
        stages={"location": ([0, 0, 1, 1], [0.9, 0.9, 0.9, 0.1]), "focus": ([0, 0, 3, 3], [0.9, 0.9, 0.9, 0.9])},
    )
    worst, best = class_outcomes(table, (0.5,))
    assert (worst.name, worst.images, worst.exit_rate, worst.top1, worst.top1_last) == ("class 3", 2, 0.5, 0.5, 1.0)
    assert worst.change == -0.5
    assert (best.name, best.change) == ("class 0", 0)
