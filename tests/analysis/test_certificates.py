"""Tests of analysis/certificates.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from made_predictions import predictions, random_predictions, tables
from scipy import stats

from lfvit_cli.analysis.certificates import choose_certain, counted_at
from lfvit_cli.analysis.exits import exit_curve
from lfvit_cli.analysis.targets import Aim, Target, choose
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion

LOCATION, FOCUS = 1e9, 3e9
TARGETS = (
    Target(aim=Aim.MAX_DROP, value=0.02),
    Target(aim=Aim.MIN_ACCURACY, value=0.81),
    Target(aim=Aim.BUDGET, value=LOCATION + 0.2 * FOCUS),
    Target(aim=Aim.EXIT_RATE, value=0.6),
)


def drawn(images: int, rng: np.random.Generator) -> Predictions:
    """Draw images from a population known in full: see `truth`."""
    sure, luck = rng.random(images), rng.random(images)
    lost = 0.4 * (1 - sure) ** 2
    location = (luck >= lost) & (luck < 0.9)
    focus = (luck < lost) | ((luck >= lost + 0.05) & (luck < 0.9))
    stages = {
        name: ((~right).astype(int).tolist(), sure.tolist())
        for name, right in {"location": location, "focus": focus}.items()
    }
    return predictions([0] * images, stages).with_macs((int(LOCATION), int(FOCUS)))


def truth(target: Target, threshold: float) -> float:
    """Give by how much a threshold meets a target in the population of `drawn`; negative where it misses it."""
    exits = max(0.0, 1 - threshold)
    drop = 0.4 * exits**3 / 3 - 0.05 * exits
    return {
        Aim.MAX_DROP: target.value - drop,
        Aim.MIN_ACCURACY: 0.85 - drop - target.value,
        Aim.BUDGET: target.value - LOCATION - (1 - exits) * FOCUS,
        Aim.EXIT_RATE: exits - target.value,
    }[target.aim]


def test_at_most_one_in_twenty_certified_thresholds_misses_its_target() -> None:
    """Over samples of a known population, certified thresholds keep their promise; estimates miss every third time."""
    samples, rng = 400, np.random.default_rng(0)
    certified, missed, missed_by_estimate = (dict.fromkeys(TARGETS, 0) for _ in range(3))
    for _ in range(samples):
        curve = exit_curve(drawn(1_000, rng))
        for target in TARGETS:
            row = choose_certain(curve, target)
            certified[target] += row is not None
            missed[target] += row is not None and truth(target, float(curve.thresholds[row, 0])) < 0
            estimated, _ = choose(curve, target)
            missed_by_estimate[target] += truth(target, float(curve.thresholds[estimated, 0])) < 0
    # Three standard deviations of a share of 5 % in so many samples.
    most = samples * 0.05 + 3 * np.sqrt(samples * 0.05 * 0.95)
    for target in TARGETS:
        assert certified[target] > 0.8 * samples
        assert missed[target] <= most
        assert missed_by_estimate[target] > samples / 3


@settings(deadline=None)
@given(table=tables(most=60))
def test_testing_stops_at_the_first_threshold_that_fails(table: Predictions) -> None:
    """Row by row from no exit, with scipy's bounds, the certified row is the last before the first failure."""
    curve, target = exit_curve(table), Target(aim=Aim.MIN_ACCURACY, value=0.3)
    expected = None
    for row in reversed(range(len(curve))):
        interval = stats.binomtest(int(curve.correct[row]), len(table)).proportion_ci(0.9, method="wilson")
        if interval.low < target.value:
            break
        expected = row
    assert choose_certain(curve, target) == expected


@settings(deadline=None)
@given(table=tables(most=60))
def test_costs_are_tested_from_the_cheap_end(table: Predictions) -> None:
    """With two stages a budget is an exit rate: both certify the same rows, and the budget takes the best of them."""
    curve = exit_curve(table)
    rate = 0.4
    location, focus = table.metadata.macs or (0, 0)
    by_rate = choose_certain(curve, Target(aim=Aim.EXIT_RATE, value=rate))
    by_cost = choose_certain(curve, Target(aim=Aim.BUDGET, value=location + (1 - rate) * focus))
    if by_rate is None:
        assert by_cost is None
    else:
        assert by_cost == np.argmax(curve.correct[: by_rate + 1])


def test_that_no_exit_loses_nothing_is_no_certificate() -> None:
    """Where no early exit is certain to lose little enough, there is no certificate, however many images there are."""
    curve = exit_curve(random_predictions(2_000))
    assert choose_certain(curve, Target(aim=Aim.MAX_DROP, value=0.0)) is None
    assert choose_certain(curve, Target(aim=Aim.MAX_DROP, value=0.001)) is None
    assert choose_certain(curve, Target(aim=Aim.MAX_DROP, value=0.02)) is not None


@pytest.mark.parametrize("criterion", Criterion)
def test_counts_at_a_front_are_those_of_the_curve(criterion: Criterion) -> None:
    """On the images that a front was found on, its rows count the same again; at most 100 of them are tested."""
    table = random_predictions(60, stages=("one", "two", "three"))
    front = exit_curve(table, criterion)
    again = counted_at(table, front, criterion)
    for name in ("thresholds", "answered", "correct", "harmed", "gained", "lost"):
        assert np.array_equal(getattr(again, name), getattr(front, name))
    many = random_predictions(800)
    assert len(counted_at(many, exit_curve(many, criterion), criterion)) == 100
