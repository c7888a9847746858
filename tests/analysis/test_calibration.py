"""Tests of analysis/calibration.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import random_predictions
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from lfvit_cli.analysis.calibration import auroc, calibration, stage_calibration


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
