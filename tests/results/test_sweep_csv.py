"""Tests of results/sweep_csv.py."""

import csv
import io

import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.sweep import SweepSettings, sweep
from lfvit_cli.results.sweep_csv import classes_csv, curve_csv


@pytest.mark.parametrize("stages", [("full",), ("location", "focus"), ("one", "two", "three")])
def test_every_point_and_class_is_a_row(stages: tuple[str, ...]) -> None:
    """Read back, the rows are the points and the classes, with thresholds of several stages in one cell."""
    made = sweep(random_predictions(120, stages=stages), "p.parquet", "made", SweepSettings(repeats=2))
    points = list(csv.DictReader(io.StringIO(curve_csv([made, made]))))
    assert [float(row["top1"]) for row in points] == [point.top1 for point in made.curve] * 2
    assert [row["macs_p95"] for row in points[: len(made.curve)]] == [str(point.macs_p95) for point in made.curve]
    assert {row["model"] for row in points} == {"made"}
    assert len(points[0]["threshold"].split()) == len(stages) - 1
    classes = list(csv.DictReader(io.StringIO(classes_csv([made]))))
    assert [float(row["change"]) for row in classes] == [each.change for each in made.classes]
