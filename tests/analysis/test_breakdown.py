"""Tests of analysis/breakdown.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import predictions, random_predictions
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from lfvit_cli.analysis.breakdown import auroc, calibration, class_outcomes, stage_calibration
from lfvit_cli.analysis.exits import exit_curve


@given(rows=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_auroc_agrees_with_sklearn(rows: list[tuple[int, bool]]) -> None:
    """The area is scikit-learn's, ties included, and none where only one kind of answer exists."""
    confidence, correct = np.array([row[0] / 6 for row in rows]), np.array([row[1] for row in rows])
    if len(set(correct)) < 2:
        assert auroc(confidence, correct) is None
    else:
        assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence))


def test_bins_agree_with_sklearn() -> None:
    """Accuracy and mean confidence of each bin are scikit-learn's."""
    table = random_predictions(2_000)
    answers = table.stages["location"]
    correct = answers.prediction == table.labels
    stage = stage_calibration("location", answers.confidence, correct)
    top1, confidence = calibration_curve(correct, answers.confidence, n_bins=15)
    assert [each.top1 for each in stage.bins] == pytest.approx(top1)
    assert [each.confidence for each in stage.bins] == pytest.approx(confidence)
    assert sum(each.images for each in stage.bins) == 2_000
    weights = [each.images / 2_000 for each in stage.bins]
    assert stage.ece == pytest.approx(np.dot(weights, np.abs(top1 - confidence)))


def test_certain_and_right_is_calibrated() -> None:
    """Confidence 1 and 0 fall into the outer bins, and being as right as one says is no error."""
    stage = stage_calibration("full", np.array([1.0, 1.0, 0.0]), np.array([True, True, False]))
    assert stage.ece == 0
    assert [(each.low, each.images) for each in stage.bins] == [(0.0, 1), (pytest.approx(14 / 15), 2)]
    assert stage.bins[-1].top1_high == 1


def test_every_stage_is_reported() -> None:
    """Stages come in the order in which they run."""
    assert [stage.stage for stage in calibration(random_predictions(20))] == ["location", "focus"]


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


def test_foreign_labels_may_be_any_numbers() -> None:
    """Labels that no class list bounds, however large, are classes like others."""
    table = predictions([10**12, 7], {"full": ([7, 7], [0.5, 0.5])})
    object.__setattr__(table, "metadata", table.metadata.model_copy(update={"classes": None}))
    assert [(each.name, each.top1) for each in class_outcomes(table, ())] == [("7", 1.0), ("1000000000000", 0.0)]
