"""Tests of results/sweep.py."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.sweep import SweepRecord, SweepSettings, sweep, sweep_record
from lfvit_cli.analysis.targets import Aim, Rule, Target
from lfvit_cli.policies import Criterion
from lfvit_cli.results.sweep import conclusions, doubts, has_fallen_back, operating_table, report


def record(
    *targets: Target,
    stages: tuple[str, ...] = ("location", "focus"),
    images: int = 120,
    rule: Rule = Rule.CAUTIOUS,
) -> SweepRecord:
    """Sweep a made table for some targets."""
    settings = SweepSettings(targets=targets, repeats=3, rule=rule)
    return sweep_record([sweep(random_predictions(images, stages=stages), "p.parquet", "made", settings)], settings)


def test_table_shows_the_choice_and_the_stages() -> None:
    """The rows are the operating points, then each stage alone, in per cent, points and GMACs."""
    made = record(Target(aim=Aim.EXIT_RATE, value=0.5), images=2_000)
    table = operating_table(made)
    chosen, first, last = ([column.text(row) for column in table.columns] for row in table.rows)
    top1 = made.operating_points[0].top1
    assert chosen[0] == "exit rate ≥ 50 %"
    assert chosen[3] == f"{100 * top1.value:.1f} ±{100 * max(top1.value - top1.low, top1.high - top1.value):.1f}"
    assert (first[0], first[2], first[5]) == ("location only", "100.0", "1.10")
    assert (last[0], last[2], last[4], last[5]) == ("focus only", "0.0", "+0.0", "3.81")


def test_uneven_intervals_show_both_ends() -> None:
    """Near 100 % an interval reaches further down than up, and its ends are written out."""
    made = record(Target(aim=Aim.EXIT_RATE, value=0.9))
    rate = made.operating_points[0].exit_rate
    text = operating_table(made).columns[2].text(operating_table(made).rows[0])
    assert text == f"{100 * rate.value:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def test_what_is_not_certified_is_marked() -> None:
    """A threshold that the estimate alone chose is marked and explained, unless that was asked for."""
    target = Target(aim=Aim.MAX_DROP, value=0.005)
    made, asked = record(target), record(target, rule=Rule.POINT)
    table = operating_table(made)
    assert table.columns[1].text(table.rows[0]).startswith("* 0.")
    assert has_fallen_back(made)
    assert doubts(made)[0] == "made, drop ≤ 0.5 points: 60 calibration images are too few to certify any threshold"
    assert "the threshold is marked *" in report(made)
    plain = operating_table(asked)
    assert plain.columns[1].text(plain.rows[0]) == table.columns[1].text(table.rows[0]).removeprefix("* ")
    assert not has_fallen_back(asked)
    assert "marked *" not in report(asked)


def test_no_exit_reads_as_none() -> None:
    """A threshold that lets no image exit is called none, not 2."""
    settings = SweepSettings(targets=(Target(aim=Aim.EXIT_RATE, value=0.0),), repeats=1)
    made = sweep_record([sweep(random_predictions(40), "p.parquet", "made", settings)], settings)
    assert made.operating_points[0].thresholds == (Criterion.CONFIDENCE.no_exit,)
    assert operating_table(made).columns[1].text(operating_table(made).rows[0]) == "none"


def test_another_criterion_than_confidence_is_named() -> None:
    """The table names what the thresholds are compared with wherever that is not the confidence alone."""
    settings = SweepSettings(
        criterion=Criterion.TOP10_ENTROPY, targets=(Target(aim=Aim.EXIT_RATE, value=0.5),), repeats=1
    )
    made = sweep_record([sweep(random_predictions(40), "p.parquet", "made", settings)], settings)
    table = operating_table(made)
    assert [column.name for column in table.columns][:3] == ["aim", "criterion", "threshold"]
    assert table.columns[1].text(table.rows[0]) == "top10-entropy"
    assert "criterion" not in [column.name for column in operating_table(record(settings.targets[0])).columns]


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
    made = record(Target(aim=kind, value=value), rule=Rule.POINT)
    (sentence,) = doubts(made)
    unit = {Aim.MAX_DROP: "points", Aim.BUDGET: "GMACs"}.get(kind, "%")
    assert "60 held-out images do not show whether it is met" in sentence
    assert sentence.endswith(f" {unit})")
    assert f"- {sentence}.\n" in report(made)


@pytest.mark.parametrize("stages", [("full",), ("location", "focus"), ("one", "two", "three")])
def test_report_fits_any_number_of_stages(stages: tuple[str, ...]) -> None:
    """The page has its sections."""
    made = record(Target(aim=Aim.MAX_DROP, value=0.02), stages=stages)
    page = report(made)
    assert ("### Classes that lose most" in page) == (len(stages) > 1)
    assert re.search(r"\| checkpoint +\| unknown", page)
    assert all(f"| {stage}" in page for stage in stages)


@pytest.mark.parametrize("names", [1, 2])
def test_the_table_fits_a_terminal(names: int) -> None:
    """The grid of the default aims is at most 120 columns wide for a few thousand images, of one model or several."""
    settings = SweepSettings(repeats=3)
    sweeps = [
        sweep(random_predictions(2_000, seed=name), "p.parquet", f"lf_deit_small ({name})", settings)
        for name in range(names)
    ]
    table = operating_table(sweep_record(sweeps, settings))
    widths = [max(len(column.text(row)) for row in table.rows) for column in table.columns]
    headings = [max(map(len, column.heading.split())) for column in table.columns]
    assert sum(map(max, widths, headings)) + 2 * len(widths) <= 120


@pytest.mark.parametrize(
    ("seed", "theirs", "verdict"),
    [
        (0, 9e9, "pays"),
        (0, 1e9, "does not pay"),
        (1, 1e9, "is dearer and more accurate"),
        (2, 9e9, "is cheaper and less accurate"),
    ],
)
def test_it_is_said_whether_the_exit_pays(seed: int, theirs: float, verdict: str) -> None:
    """By cost and by the interval of the difference: against the last stage, and against a network of one stage."""
    table = random_predictions(600)
    answers = [table.stages["focus"], random_predictions(600, seed=9).stages["location"], table.stages["focus"]][seed]
    labels = np.asarray(table.labels)
    prediction = labels if seed == 2 else answers.prediction
    rival = replace(
        random_predictions(600, stages=("full",)),
        stages={"full": replace(answers, prediction=prediction)},
        metadata=table.metadata.model_copy(update={"stages": ("full",), "macs": (round(theirs),)}),
    )
    settings = SweepSettings(repeats=3, targets=(Target(aim=Aim.MAX_DROP, value=0.05),))
    sweeps = [sweep(table, "a", "ours", settings, {"rival": rival}), sweep(rival, "b", "rival", settings)]
    own, other = conclusions(sweep_record(sweeps, settings))
    assert own.startswith("ours, drop ≤ 5 points: against its own last stage the early exit ")
    assert other.startswith(f"ours, drop ≤ 5 points: against rival the early exit {verdict} (")
    assert f"GMACs to {theirs / 1e9:.2f}" in other
