"""Tests of evaluation/sources.py."""

from pathlib import Path

import pytest
from made_predictions import random_predictions

from lfvit_cli.evaluation.sources import kind_of, names_of, read_curve
from lfvit_cli.evaluation.table import write_predictions


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("lf_deit_small:location_grid=9", "model"),
        ("absent.parquet", "predictions"),
        ("some/where", "predictions"),
        ("weights.pth", "curve"),
        ("hf-hub:owner/name", "curve"),
    ],
)
def test_a_name_tells_what_a_source_is(source: str, kind: str) -> None:
    """Whether or not it is there."""
    assert kind_of(source) == kind


def test_the_columns_of_a_text_file_tell_what_it_is(tmp_path: Path) -> None:
    """A curve has top-1 and GMACs, and is read as one; any other table is of predictions."""
    curve, table = tmp_path / "curve.csv", tmp_path / "table.csv"
    curve.write_text("top1,gmacs\n75,1.5\n")
    table.write_text("label,full_prediction,full_confidence\n0,0,1\n")
    assert (kind_of(str(curve)), kind_of(str(table))) == ("curve", "predictions")
    assert [point.macs for point in read_curve(str(curve)).curve] == [1.5e9]


def test_a_file_without_an_ending_is_predictions(tmp_path: Path) -> None:
    """What is there is no model."""
    write_predictions(tmp_path / "table", random_predictions(4))
    assert kind_of(str(tmp_path / "table")) == "predictions"


def test_names_tell_tables_apart() -> None:
    """By the model; two of the same model also by the file, and by its path where that is the same too."""
    one = random_predictions(4)
    assert names_of([one], ["a.parquet"]) == ["lf_deit_small"]
    assert names_of([one, one], ["a.parquet", "b.parquet"]) == ["lf_deit_small (a)", "lf_deit_small (b)"]
    assert names_of([one, one], ["x/a.parquet", "y/a.parquet"]) == ["x/a.parquet", "y/a.parquet"]
