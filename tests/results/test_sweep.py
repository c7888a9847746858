"""Tests of results/sweep.py."""

import csv
import io

import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.exits import Criterion
from lfvit_cli.analysis.operating_points import Aim, Target
from lfvit_cli.analysis.sweep import SweepRecord, SweepSettings, sweep, sweep_record
from lfvit_cli.results.sweep import aim, classes_csv, curve_csv, operating_table, report, undecided


def record(*targets: Target, stages: tuple[str, ...] = ("location", "focus"), images: int = 120) -> SweepRecord:
    """Sweep a made table for some targets."""
    settings = SweepSettings(targets=targets, repeats=3)
    return sweep_record([sweep(random_predictions(images, stages=stages), "p.parquet", "made", settings)], settings)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Aim.BUDGET, 1.7e9, "at most 1.7 GMACs"),
        (Aim.MAX_DROP, 0.0, "no drop"),
        (Aim.MAX_DROP, 0.005, "drop of at most 0.5 points"),
        (Aim.MAX_DROP, 0.01, "drop of at most 1 point"),
        (Aim.MIN_ACCURACY, 0.795, "top-1 of at least 79.5 %"),
        (Aim.EXIT_RATE, 0.78, "exit rate of at least 78 %"),
    ],
)
def test_aims_in_words(kind: Aim, value: float, words: str) -> None:
    """Each aim reads as a person would say it."""
    assert aim(Target(aim=kind, value=value)) == words


def test_table_shows_the_choice_and_the_stages() -> None:
    """The rows are the operating points, then each stage alone, in per cent, points and GMACs."""
    made = record(Target(aim=Aim.EXIT_RATE, value=0.5))
    table = operating_table(made)
    chosen, first, last = ([column.text(row) for column in table.columns] for row in table.rows)
    top1 = made.operating_points[0].top1
    assert chosen[0] == "exit rate of at least 50 %"
    assert chosen[3] == f"{100 * top1.value:.1f} ({100 * top1.low:.1f} to {100 * top1.high:.1f})"
    assert (first[0], first[2], first[5]) == ("location only", "100.0", "1.10")
    assert (last[0], last[2], last[4], last[5]) == ("focus only", "0.0", "+0.0", "3.81")


def test_no_exit_reads_as_none() -> None:
    """A threshold that lets no image exit is called none, not 2."""
    settings = SweepSettings(targets=(Target(aim=Aim.EXIT_RATE, value=0.0),), repeats=1)
    made = sweep_record([sweep(random_predictions(40), "p.parquet", "made", settings)], settings)
    assert made.operating_points[0].thresholds == (Criterion.CONFIDENCE.no_exit,)
    assert operating_table(made).columns[1].text(operating_table(made).rows[0]) == "none"


@pytest.mark.parametrize("kind", [Aim.MAX_DROP, Aim.MIN_ACCURACY, Aim.BUDGET, Aim.EXIT_RATE])
def test_what_cannot_be_told_is_said(kind: Aim) -> None:
    """Where the interval leaves the aim open, a sentence says so, with the interval in the aim's unit."""
    probe = record(Target(aim=Aim.EXIT_RATE, value=0.5)).operating_points[0]
    value = {
        Aim.MAX_DROP: 0.01,
        Aim.MIN_ACCURACY: probe.top1.value,
        Aim.BUDGET: 1.6e9,
        Aim.EXIT_RATE: probe.exit_rate.value,
    }[kind]
    made = record(Target(aim=kind, value=value))
    (sentence,) = undecided(made)
    unit = {Aim.MAX_DROP: "points", Aim.BUDGET: "GMACs"}.get(kind, "%")
    assert "60 held-out images cannot tell whether it is met" in sentence
    assert sentence.endswith(f" {unit})")
    assert f"- {sentence}.\n" in report(made)


@pytest.mark.parametrize("stages", [("full",), ("location", "focus"), ("one", "two", "three")])
def test_report_and_files_fit_any_number_of_stages(stages: tuple[str, ...]) -> None:
    """The page has its sections, and the CSV files a row for every point and class."""
    made = record(Target(aim=Aim.MAX_DROP, value=0.02), stages=stages)
    page = report(made)
    assert ("### Classes that lose most" in page) == (len(stages) > 1)
    assert "| checkpoint        | unknown" in page
    assert all(f"| {stage}" in page for stage in stages)
    points = list(csv.DictReader(io.StringIO(curve_csv([made]))))
    assert [float(row["top1"]) for row in points] == [point.top1 for point in made.curve]
    assert len(points[0]["threshold"].split()) == len(stages) - 1
    assert len(list(csv.DictReader(io.StringIO(classes_csv([made]))))) == len(made.classes)
