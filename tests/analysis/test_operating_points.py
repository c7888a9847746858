"""Tests of analysis/operating_points.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import predictions, random_predictions

from lfvit_cli.analysis.errors import AnalysisError, UnreachableTargetError
from lfvit_cli.analysis.exits import Criterion, exit_curve, simulate
from lfvit_cli.analysis.operating_points import (
    Aim,
    Target,
    Verdict,
    choose,
    operating_points,
    split_halves,
)


def target(aim: Aim, value: float) -> Target:
    """Shorten a target."""
    return Target(aim=aim, value=value)


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=60), seed=st.integers(0, 99))
def test_halves_hold_every_class_equally(labels: list[int], seed: int) -> None:
    """Each image is in one half, and the halves differ by at most one image in every class and in all."""
    classes = np.array(labels)
    halves = split_halves(classes, np.random.default_rng(seed))
    assert sorted(np.concatenate(halves).tolist()) == list(range(len(labels)))
    one, other = (np.bincount(classes[half], minlength=5) for half in halves)
    assert np.abs(one - other).max() <= 1
    assert abs(int(one.sum()) - int(other.sum())) <= 1


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


def test_report_is_what_the_threshold_does_on_the_other_half() -> None:
    """With one split, every number is the simulation's on the half that did not choose."""
    table = random_predictions(401)
    (point,) = operating_points(table, (target(Aim.EXIT_RATE, 0.5),), repeats=1, seed=3)
    chosen, rest = split_halves(table.labels, np.random.default_rng(3))
    curve = exit_curve(table.take(chosen))
    assert point.thresholds == tuple(curve.thresholds[choose(curve, point.target)[0]].tolist())
    held_out = table.take(rest)
    outcome = simulate(held_out, point.thresholds)
    focus = held_out.stages["focus"].prediction == held_out.labels
    assert point.images == len(rest)
    assert point.top1.value == outcome.correct.mean()
    assert point.exit_rate.value == (outcome.stage == 0).mean()
    assert point.difference.value == pytest.approx(outcome.correct.mean() - focus.mean())
    assert point.macs is not None
    assert point.macs.value == pytest.approx(np.asarray(outcome.macs).mean())
    for estimate in (point.top1, point.exit_rate, point.difference, point.macs):
        assert estimate.low <= estimate.value <= estimate.high
    assert point.top1_spread.low == point.top1_spread.high == point.top1.value


def test_the_seed_decides_everything() -> None:
    """The same seed gives the same points, another seed other splits."""
    table = random_predictions(200)
    aims = (target(Aim.MAX_DROP, 0.02), target(Aim.BUDGET, 2.5e9))
    assert operating_points(table, aims, seed=1) == operating_points(table, aims, seed=1)
    assert operating_points(table, aims, seed=1) != operating_points(table, aims, seed=2)


def test_median_split_is_the_one_reported() -> None:
    """The threshold is the median over the splits, and one that a split really chose."""
    (point,) = operating_points(random_predictions(200), (target(Aim.EXIT_RATE, 0.5),), repeats=7)
    assert point.thresholds == (point.threshold_spread[0].median,)
    assert point.threshold_spread[0].low <= point.thresholds[0] <= point.threshold_spread[0].high
    assert point.splits == 7


def test_verdict_follows_the_interval() -> None:
    """Far from the target the data decide; close to it, with few images, they say that they cannot."""
    table = random_predictions(400)
    (sure,) = operating_points(table, (target(Aim.MIN_ACCURACY, 0.1),))
    (unsure,) = operating_points(table, (target(Aim.MAX_DROP, 0.01),))
    assert sure.verdict is Verdict.MET
    assert unsure.verdict is Verdict.UNDECIDED
    assert unsure.difference.low < -0.01 < unsure.difference.high


def test_missed_where_the_held_out_half_differs() -> None:
    """A threshold that one half chose is missed where the other half contradicts it throughout."""
    half = 200
    right, wrong = [0] * half, [1] * half
    chosen, rest = split_halves(np.zeros(2 * half, dtype=int), np.random.default_rng(0))
    location = np.empty(2 * half, dtype=int)
    location[chosen], location[rest] = right, wrong
    table = predictions(
        [0] * 2 * half,
        {"location": (location.tolist(), [0.5] * 2 * half), "focus": (right * 2, [0.5] * 2 * half)},
    )
    (point,) = operating_points(table, (target(Aim.MAX_DROP, 0.01),), repeats=1)
    assert point.verdict is Verdict.MISSED
    assert (point.top1.value, point.difference.value, point.met_splits) == (0, -1, 0)


@pytest.mark.parametrize(
    ("aim", "value", "said"),
    [
        (Aim.BUDGET, 1e9, r"--budget 1.000 GMACs. The reachable range is 1.102 to 3.811 GMACs"),
        (Aim.MIN_ACCURACY, 0.999, r"--min-accuracy 99.90 %. The reachable range is \d+.\d\d to \d+.\d\d %"),
        (
            Aim.MAX_DROP,
            -0.9,
            r"--max-drop a drop of -90.00 points. The reachable range is -?\d+.\d\d to \d+.\d\d points",
        ),
    ],
)
def test_impossible_targets_say_what_is_possible(aim: Aim, value: float, said: str) -> None:
    """A target that no threshold reaches names the range that thresholds do reach."""
    with pytest.raises(UnreachableTargetError, match=said):
        operating_points(random_predictions(100), (target(aim, value),))


def test_what_cannot_be_asked() -> None:
    """One stage has no exit, one image no halves, and a budget needs MACs."""
    aims = (target(Aim.BUDGET, 2e9),)
    with pytest.raises(AnalysisError, match="one stage has no exit"):
        operating_points(random_predictions(10, stages=("full",)), aims)
    with pytest.raises(AnalysisError, match="one image cannot be split"):
        operating_points(random_predictions(1), aims)
    with pytest.raises(AnalysisError, match="a budget needs MACs"):
        operating_points(random_predictions(10, macs=False), aims)


@pytest.mark.parametrize("criterion", Criterion)
def test_three_stages_have_two_thresholds(criterion: Criterion) -> None:
    """With more stages a threshold is chosen for each but the last."""
    table = random_predictions(150, stages=("one", "two", "three"))
    (point,) = operating_points(table, (target(Aim.BUDGET, 3e9),), criterion, repeats=3)
    assert len(point.thresholds) == len(point.threshold_spread) == 2
