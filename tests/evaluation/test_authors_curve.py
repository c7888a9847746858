"""Tests of evaluation/authors_curve.py."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.authors_curve import AuthorsCurve, authors_record, read_authors_curve

CURVE = {
    "flops": [1.0, 3.0],
    "anytime_classification": [70.0, 81.0],
    "budgeted_batch_classification": [[2.5, 1.5], [80.0, 78.0]],
}


def read(folder: Path, **records: Any) -> AuthorsCurve:
    """Save a checkpoint that carries these records, and read its curve."""
    torch.save({"model": {"head.weight": torch.zeros(3, 2)}, **records}, folder / "lf_vit.pth")
    return read_authors_curve(str(folder / "lf_vit.pth"))


def test_the_curve_is_read_with_its_stages(tmp_path: Path) -> None:
    """Points come from the cheapest, in MACs and shares, with the exit rates that their costs imply."""
    curve = read(tmp_path, **CURVE)
    assert [(p.macs, p.top1, p.exit_rate, p.threshold) for p in curve.curve] == [
        (1.5e9, 0.78, 0.75, None),
        (2.5e9, 0.80, 0.25, None),
    ]
    stages = {name: (p.macs, p.top1, p.exit_rate) for name, (p,) in curve.reference_curves.items()}
    assert stages == {"location_only": (1e9, 0.7, 1.0), "focus_only": (3e9, 0.81, 0.0)}
    assert curve.name == "lf_vit"
    assert curve.checkpoint_hash == hashlib.sha256((tmp_path / "lf_vit.pth").read_bytes()).hexdigest()


def test_other_units_and_tensors_are_the_same_curve(tmp_path: Path) -> None:
    """MACs instead of GMACs, shares instead of per cent, and tensors instead of lists change nothing."""
    units = {
        "flops": [1e9, 3e9],
        "anytime_classification": torch.tensor([0.7, 0.81], dtype=torch.float64),
        "budgeted_batch_classification": torch.tensor([[2.5e9, 1.5e9], [0.8, 0.78]], dtype=torch.float64),
    }
    assert read(tmp_path, **units).curve == read(tmp_path, **CURVE).curve


def test_a_curve_without_stages_has_no_exit_rates(tmp_path: Path) -> None:
    """Without the costs of the stages the exit rates are unknown."""
    curve = read(tmp_path, budgeted_batch_classification=CURVE["budgeted_batch_classification"])
    assert curve.reference_curves == {}
    assert [point.exit_rate for point in curve.curve] == [None, None]


def test_no_curve_says_what_to_do(tmp_path: Path) -> None:
    """A checkpoint that carries none is to be evaluated."""
    with pytest.raises(MeasureError, match=r"carries no curve of its authors\. Evaluate it"):
        read(tmp_path, flops=[1.0, 3.0])


@pytest.mark.parametrize(
    "value",
    [[], [[1.2], [75.0], [1.0]], [[1.2, 1.8], [75.0]], [[], []], [[-1.0], [75.0]], [[1.2], [float("nan")]], 7, "curve"],
)
def test_what_is_no_curve_is_refused(tmp_path: Path, value: Any) -> None:
    """Anything but as many positive costs as accuracies is told, and nothing is guessed."""
    with pytest.raises(MeasureError, match="is not a list of positive MACs and one of accuracies"):
        read(tmp_path, budgeted_batch_classification=value)


def test_the_record_says_what_the_curve_is_worth(tmp_path: Path) -> None:
    """Every curve of a record brings the warning, and the record comes back from JSON as it was."""
    curve = read(tmp_path, **CURVE)
    record = authors_record([curve, curve.model_copy(update={"name": "other"})])
    assert type(record).model_validate_json(record.model_dump_json()) == record
    assert [warning.partition(":")[0] for warning in record.warnings] == ["lf_vit", "other"]
    assert record.operating_points == ()
