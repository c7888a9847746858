"""Tests of analysis/area.py."""

import pytest
from hypothesis import given, settings
from made_predictions import predictions, random_predictions, tables

from lfvit_cli.analysis.area import area_under
from lfvit_cli.analysis.exits import exit_curve
from lfvit_cli.analysis.references import oracle_exit, random_exit
from lfvit_cli.evaluation.table import Predictions


def area_of(table: Predictions) -> tuple[float, float, float, float | None]:
    """Give the areas of a table's curve, its random and its oracle exit, and the share of the oracle."""
    area = area_under(exit_curve(table), oracle_exit(table), random_exit(table))
    return area.curve, area.random, area.oracle, area.share_of_oracle


@settings(deadline=None)
@given(table=tables())
def test_area_is_between_nothing_and_the_oracle(table: Predictions) -> None:
    """No curve encloses more than the oracle's, and random exits enclose the mean of the stages alone."""
    curve, lot, oracle, _ = area_of(table)
    first, last = (answers.prediction == table.labels for answers in table.stages.values())
    assert 0 <= curve <= oracle + 1e-12 <= 1 + 2e-12
    assert lot == pytest.approx((first.mean() + last.mean()) / 2)


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
    curve, lot, oracle, _ = area_of(random_predictions(300, stages=("one", "two", "three")))
    assert lot < curve < oracle
