"""Tests of analysis/references.py."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from made_predictions import predictions, random_predictions, tables

from lfvit_cli.analysis.exits import exit_curve
from lfvit_cli.analysis.references import area_under, oracle_exit, random_exit, reference_curves
from lfvit_cli.evaluation.table import Predictions


@settings(deadline=None)
@given(table=tables())
def test_no_curve_beats_the_oracle(table: Predictions) -> None:
    """At every cost of the curve the oracle is at least as accurate."""
    curve, oracle = exit_curve(table), oracle_exit(table)
    best = np.interp(curve.exit_rate, [p.exit_rate for p in oracle[::-1]], [p.top1 for p in oracle[::-1]])
    assert np.all(curve.top1 <= best + 1e-12)


@settings(deadline=None, max_examples=30)
@given(table=tables(stages=3, most=5))
def test_oracle_is_the_best_of_all_decisions(table: Predictions) -> None:
    """Each corner is the best that any decision, image by image, reaches within its cost."""
    macs = table.metadata.macs
    assert macs is not None
    right = np.stack([answers.prediction == table.labels for answers in table.stages.values()])
    costs, everyone = np.cumsum(macs), np.arange(len(table))
    decisions = [np.array(chosen) for chosen in itertools.product(range(3), repeat=len(table))]
    reached = [(costs[chosen].mean(), right[chosen, everyone].mean()) for chosen in decisions]
    for corner in oracle_exit(table):
        assert corner.macs is not None
        best = max(top1 for cost, top1 in reached if cost <= corner.macs + 1e-6)
        assert corner.top1 == pytest.approx(best)


def test_random_exit_is_the_straight_line() -> None:
    """With two stages, exits drawn by lot lie between the stages alone."""
    table = random_predictions(300)
    first, last = random_exit(table)
    curves = reference_curves(table)
    assert curves["location_only"] == (first,)
    assert curves["focus_only"] == (last,)
    assert (first.exit_rate, last.exit_rate) == (1, 0)


def test_random_exit_leaves_out_a_stage_not_worth_mixing() -> None:
    """A middle stage below the line between its neighbours is no part of the best mixture."""
    stages = {"one": ([0, 1], [0.5, 0.5]), "two": ([1, 0], [0.5, 0.5]), "three": ([0, 0], [0.5, 0.5])}
    table = predictions([0, 0], stages)
    assert [point.top1 for point in random_exit(table)] == [0.5, 1.0]


def test_unknown_macs_leave_the_exit_rate() -> None:
    """Without MACs the references still have their exit rates."""
    curves = reference_curves(random_predictions(30, macs=False))
    assert all(point.macs is None for points in curves.values() for point in points)
    assert curves["oracle"][0].exit_rate == 1


def area_of(table: Predictions) -> tuple[float, float, float, float | None]:
    """The areas of a table's curve, its random and its oracle exit, and the share of the oracle."""
    area = area_under(exit_curve(table), oracle_exit(table), random_exit(table))
    return area.curve, area.random, area.oracle, area.share_of_oracle


@settings(deadline=None)
@given(table=tables())
def test_area_is_between_nothing_and_the_oracle(table: Predictions) -> None:
    """No curve encloses more than the oracle's, and random exits enclose the mean of the stages alone."""
    curve, chance, oracle, _ = area_of(table)
    first, last = (answers.prediction == table.labels for answers in table.stages.values())
    assert 0 <= curve <= oracle + 1e-12 <= 1 + 2e-12
    assert chance == pytest.approx((first.mean() + last.mean()) / 2)


def test_area_does_not_depend_on_the_macs() -> None:
    """Networks of different cost compare: with two stages the area is the same without MACs."""
    assert area_of(random_predictions(200)) == pytest.approx(area_of(random_predictions(200, macs=False)))


def test_a_perfect_exit_reaches_the_oracle() -> None:
    """Where confidence is high just where location is right, the curve's area is the oracle's, as good as."""
    right, wrong = 500, 500
    location = [0] * right + [1] * wrong
    sure = [0.9 + row / 10_000 for row in range(right)] + [row / 10_000 for row in range(wrong)]
    table = predictions([0] * 1000, {"location": (location, sure), "focus": ([0] * 1000, [0.9] * 1000)})
    assert area_of(table)[3] == pytest.approx(1.0, abs=1e-9)


def test_nothing_to_gain_has_no_share() -> None:
    """Where every stage is right, there is no gain to have a share of."""
    table = predictions([0, 0], {"location": ([0, 0], [0.1, 0.2]), "focus": ([0, 0], [0.1, 0.2])})
    assert area_of(table) == (1, 1, 1, None)


def test_three_stages_have_an_area() -> None:
    """The Pareto front of more stages lies between random exits and the oracle."""
    curve, chance, oracle, _ = area_of(random_predictions(300, stages=("one", "two", "three")))
    assert chance < curve < oracle
