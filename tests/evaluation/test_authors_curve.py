"""Tests of evaluation/authors_curve.py."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.authors_curve import (
    AuthorsCurve,
    authors_record,
    holds_curve,
    read_checkpoint_curve,
    read_curve_file,
)

CURVE = {
    "flops": [1.0, 3.0],
    "anytime_classification": [70.0, 81.0],
    "budgeted_batch_classification": [[2.5, 1.5], [80.0, 78.0]],
}


def read(folder: Path, **records: Any) -> AuthorsCurve:
    """Save a checkpoint that carries these records, and read its curve."""
    torch.save({"model": {"head.weight": torch.zeros(3, 2)}, **records}, folder / "lf_vit.pth")
    return read_checkpoint_curve(str(folder / "lf_vit.pth"))


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
    assert curve.sha256 == hashlib.sha256((tmp_path / "lf_vit.pth").read_bytes()).hexdigest()


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
    with pytest.raises(MeasureError, match="does not have a positive number of MACs and an accuracy for every point"):
        read(tmp_path, budgeted_batch_classification=value)


def test_the_record_says_what_the_curve_is_worth(tmp_path: Path) -> None:
    """Every curve of a record brings the warning, and the record comes back from JSON as it was."""
    curve = read(tmp_path, **CURVE)
    record = authors_record([curve, curve.model_copy(update={"name": "other"})])
    assert type(record).model_validate_json(record.model_dump_json()) == record
    assert [warning.partition(":")[0] for warning in record.warnings] == ["lf_vit", "other"]
    assert record.operating_points == ()


# Rows of ThinkingViT's released logs, from the dearest.
THINKING = """\
threshold,images,exited,exit_rate,stage_1_correct,stage_1_top1,top1,top5,gmacs_reported,gmacs_recomputed,log
0.0,50000,0,0.0,0,,81.44,95.716,5.85,5.85,threshold_0p0.log
0.5,50000,20361,0.40722,19720,96.852,81.368,95.562,3.98,3.976788,threshold_0p5.log
5.0,50000,50000,1.0,36768,73.536,73.536,92.046,1.25,1.25,threshold_5.log
"""


def written(folder: Path, text: str) -> Path:
    """A CSV file of this text."""
    (folder / "curve.csv").write_text(text)
    return folder / "curve.csv"


def test_a_csv_file_is_a_curve(tmp_path: Path) -> None:
    """Points come from the cheapest, in MACs and shares; the more exact of two columns of GMACs is taken."""
    file = written(tmp_path, THINKING)
    assert holds_curve(file)
    curve = read_curve_file(str(file))
    assert [(point.threshold, point.exit_rate) for point in curve.curve] == [(5.0, 1.0), (0.5, 0.40722), (0.0, 0.0)]
    assert [point.top1 for point in curve.curve] == pytest.approx([0.73536, 0.81368, 0.8144])
    assert [point.macs for point in curve.curve] == pytest.approx([1.25e9, 3.976788e9, 5.85e9])
    assert (curve.name, curve.file, curve.reference_curves) == ("curve", str(file), {})
    assert curve.sha256 == hashlib.sha256(THINKING.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("gmacs,top1\n1.5,75\n", [(None, None, 0.75, 1.5e9)]),
        ("top1, gmacs_reported\n0.75,1.5\n", [(None, None, 0.75, 1.5e9)]),
        ("\ufefftop1,gmacs,exit_rate_implied\n75,1.5,0.5\n", [(None, 0.5, 0.75, 1.5e9)]),
        ("top1,gmacs,threshold\n75,1.5,\n80,2,0.3\n", [(None, None, 0.75, 1.5e9), (0.3, None, 0.8, 2e9)]),
    ],
)
def test_two_columns_are_enough(
    tmp_path: Path, text: str, points: list[tuple[float | None, float | None, float, float]]
) -> None:
    """What is not reported is None; shares, blanks after commas and a byte order mark are welcome."""
    file = written(tmp_path, text)
    assert holds_curve(file)
    found = read_curve_file(str(file)).curve
    assert [(point.threshold, point.exit_rate, point.top1, point.macs) for point in found] == points


@pytest.mark.parametrize(
    "text",
    [
        "",
        "top1\n75\n",
        "gmacs,threshold\n1,2\n",
        "label,full_prediction,full_confidence,top1,gmacs\n0,0,1,75,1.5\n",
        "a picture \x00",
    ],
)
def test_other_tables_are_not_taken_for_curves(tmp_path: Path, text: str) -> None:
    """Without both columns, or with those of predictions, a file is no curve; nor is one that is not there."""
    assert not holds_curve(written(tmp_path, text))
    assert not holds_curve(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top1,gmacs\n", "does not have a positive number of MACs and an accuracy for every point"),
        ("top1,gmacs\n75,\n", "does not have a positive number of MACs and an accuracy for every point"),
        ("top1,gmacs\n75,-1\n", "does not have a positive number of MACs and an accuracy for every point"),
        ("top1,gmacs\n175,1\n", "does not have a positive number of MACs and an accuracy for every point"),
        ("top1,gmacs\nhigh,1\n", "cannot be read: could not convert string to float: 'high'"),
        ("top1,gmacs,exit_rate\n75,1,50\n", "has exit rates outside 0 to 1"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Numbers that are missing or impossible are told, with the columns that are expected."""
    with pytest.raises(MeasureError) as caught:
        read_curve_file(str(written(tmp_path, text)))
    assert said in caught.value.problem
    assert caught.value.remedy.startswith("Give the columns top1 and gmacs")
