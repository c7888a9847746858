"""Tests of analysis/targets.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from made_predictions import predictions, random_predictions, tables
from scipy import stats

from lfvit_cli.analysis.exits import exit_curve
from lfvit_cli.analysis.targets import Aim, Target, choose, choose_certain, counted_at, require_reachable
from lfvit_cli.errors import UnreachableTargetError
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion

LOCATION, FOCUS = 1e9, 3e9
TARGETS = (
    Target(aim=Aim.MAX_DROP, value=0.02),
    Target(aim=Aim.MIN_ACCURACY, value=0.81),
    Target(aim=Aim.BUDGET, value=LOCATION + 0.2 * FOCUS),
    Target(aim=Aim.EXIT_RATE, value=0.6),
)


def target(aim: Aim, value: float) -> Target:
    """Shorten a target."""
    return Target(aim=aim, value=value)


@pytest.mark.parametrize(
    ("aim", "value", "words"),
    [
        (Aim.BUDGET, 1.7e9, "≤ 1.7 GMACs"),
        (Aim.MAX_DROP, 0.0, "no drop"),
        (Aim.MAX_DROP, 0.005, "drop ≤ 0.5 points"),
        (Aim.MAX_DROP, 0.01, "drop ≤ 1 point"),
        (Aim.MIN_ACCURACY, 0.795, "top-1 ≥ 79.5 %"),
        (Aim.EXIT_RATE, 0.78, "exit rate ≥ 78 %"),
    ],
)
def test_targets_in_words(aim: Aim, value: float, words: str) -> None:
    """Each target reads as a person would say it."""
    assert target(aim, value).words == words


def test_choice_is_the_best_row() -> None:
    """Each aim takes the row that a search over all rows finds."""
    curve = exit_curve(random_predictions(300))
    assert curve.macs is not None
    row, reachable = choose(curve, target(Aim.BUDGET, 2.4e9))
    assert reachable
    assert curve.macs[row] <= 2.4e9
    assert curve.top1[row] == curve.top1[curve.macs <= 2.4e9].max()

    row, reachable = choose(curve, target(Aim.MAX_DROP, 0.01))
    allowed = curve.correct >= curve.last_correct - 3
    assert reachable
    assert curve.macs[row] == curve.macs[allowed].min()

    row, reachable = choose(curve, target(Aim.MIN_ACCURACY, 0.75))
    assert reachable
    assert curve.macs[row] == curve.macs[curve.top1 >= 0.75].min()

    row, reachable = choose(curve, target(Aim.EXIT_RATE, 0.6))
    assert reachable
    assert curve.exit_rate[row] == curve.exit_rate[curve.exit_rate >= 0.6].min()


def test_choice_comes_as_close_as_it_can() -> None:
    """Where no row of a half reaches the target, the closest is taken, and said not to reach it."""
    curve = exit_curve(random_predictions(300))
    assert choose(curve, target(Aim.MIN_ACCURACY, 1.0)) == (int(np.argmax(curve.correct)), False)


@pytest.mark.parametrize(
    ("aim", "value", "said"),
    [
        (Aim.BUDGET, 1e9, r"--budget 1.000 GMACs. The reachable range is 1.102 to 3.811 GMACs"),
        (Aim.MIN_ACCURACY, 0.999, r"--min-accuracy 99.90 %. The reachable range is \d+.\d\d to \d+.\d\d %"),
        (
            Aim.MAX_DROP,
            -0.9,
            r"--max-drop -90.00 points. The reachable range is -?\d+.\d\d to \d+.\d\d points",
        ),
    ],
)
def test_impossible_targets_say_what_is_possible(aim: Aim, value: float, said: str) -> None:
    """A target that no threshold reaches names the range that thresholds do reach."""
    with pytest.raises(UnreachableTargetError, match=said):
        require_reachable(exit_curve(random_predictions(100)), target(aim, value))


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
