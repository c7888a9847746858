"""Tests of results/sweep_files.py."""

import csv
import io
import json

import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.sweep import SweepSettings, sweep
from lfvit_cli.analysis.targets import Aim, Target
from lfvit_cli.results.sweep_files import classes_csv, curve_csv, policies


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


def test_every_network_with_exits_has_its_own_policy() -> None:
    """Names that one file system would take for the same are told apart; a network without exits has no policy."""
    settings = SweepSettings(targets=(Target(aim=Aim.EXIT_RATE, value=0.5),), repeats=2)
    names = {
        "a:b=1,c=2": ("location", "focus"),
        "A b 1/c 2": ("one", "two", "three"),
        "plain": ("full",),
        "é": ("x", "y"),
    }
    made = [
        sweep(random_predictions(40, stages=stages, seed=seed), "p.parquet", name, settings)
        for seed, (name, stages) in enumerate(names.items())
    ]
    files = policies(made)
    assert list(files) == [
        "policies/a-b-1-c-2.json",
        "policies/A-b-1-c-2-2.json",
        "policies/network.json",
        "policy.json",
    ]
    assert files["policy.json"] == files["policies/a-b-1-c-2.json"]
    assert [json.loads(text)["stages"] for text in files.values()][:2] == [
        ["location", "focus"],
        ["one", "two", "three"],
    ]
    assert list(policies([made[2], made[0]])) == ["policies/a-b-1-c-2.json"]
