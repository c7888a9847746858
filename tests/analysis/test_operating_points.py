"""Tests of analysis/operating_points.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import predictions, random_predictions

from lfvit_cli.analysis.exits import exit_curve, simulate
from lfvit_cli.analysis.operating_points import Verdict, operating_points, split_halves
from lfvit_cli.analysis.targets import Aim, Rule, Target, choose, choose_certain
from lfvit_cli.errors import AnalysisError, UnreachableTargetError
from lfvit_cli.policies import Criterion


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


@pytest.mark.parametrize("rule", Rule)
def test_report_is_what_the_threshold_does_on_the_other_half(rule: Rule) -> None:
    """With one split, every number is the simulation's on the half that did not choose."""
    table = random_predictions(401)
    (point,) = operating_points(table, (target(Aim.EXIT_RATE, 0.5),), rule=rule, repeats=1, seed=3)
    chosen, rest = split_halves(table.labels, np.random.default_rng(3))
    curve = exit_curve(table.take(chosen))
    row = choose_certain(curve, point.target) if rule is Rule.CAUTIOUS else choose(curve, point.target)[0]
    assert row is not None
    assert point.certified == (rule is Rule.CAUTIOUS)
    assert point.certified_splits == (1.0 if rule is Rule.CAUTIOUS else None)
    assert point.thresholds == tuple(curve.thresholds[row].tolist())
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


def test_a_rival_is_compared_on_the_other_half() -> None:
    """The difference to it is the simulation's on the half that did not choose, image by image."""
    table, theirs = random_predictions(401), random_predictions(401, stages=("full",), seed=5).stages["full"]
    right = theirs.prediction == table.labels
    (point,) = operating_points(table, (target(Aim.EXIT_RATE, 0.5),), repeats=1, seed=3, rivals={"rival": right})
    _, rest = split_halves(table.labels, np.random.default_rng(3))
    ours = simulate(table.take(rest), point.thresholds).correct
    difference = point.against["rival"]
    assert difference.value == pytest.approx(ours.mean() - right[rest].mean())
    assert difference.low < difference.value < difference.high


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
    (unsure,) = operating_points(table, (target(Aim.MAX_DROP, 0.01),), rule=Rule.POINT)
    assert sure.verdict is Verdict.MET
    assert unsure.verdict is Verdict.UNDECIDED
    assert unsure.difference.low < -0.01 < unsure.difference.high


def test_too_few_images_certify_nothing_and_the_estimate_chooses() -> None:
    """Where no split can be certain, the point is the point rule's, and says that it is not certified."""
    table, aims = random_predictions(200), (target(Aim.MAX_DROP, 0.005), target(Aim.MAX_DROP, 0.0))
    asked, estimated = (operating_points(table, aims, rule=rule) for rule in (Rule.CAUTIOUS, Rule.POINT))
    for point, other in zip(asked, estimated, strict=True):
        assert not point.certified
        assert point.certified_splits == 0
        assert point.thresholds == other.thresholds
        assert point.splits == 20
        assert point.verdict is not Verdict.MET


def test_many_images_decide_for_the_cautious_choice_alone() -> None:
    """With many images every cautious choice is met, and no choice by the estimate: those lie on their targets."""
    table = random_predictions(20_000)
    aims = (
        target(Aim.MAX_DROP, 0.01),
        target(Aim.MIN_ACCURACY, 0.75),
        target(Aim.BUDGET, 1.6e9),
        target(Aim.EXIT_RATE, 0.6),
    )
    cautious, estimated = (operating_points(table, aims, rule=rule, repeats=9) for rule in (Rule.CAUTIOUS, Rule.POINT))
    assert all(point.certified for point in cautious)
    assert [point.verdict for point in cautious] == [Verdict.MET] * 4
    assert [point.verdict for point in estimated] == [Verdict.UNDECIDED] * 4
    assert all(point.met_splits >= 0.8 for point in cautious)


@pytest.mark.parametrize("criterion", Criterion)
@pytest.mark.parametrize("aim", [Aim.MAX_DROP, Aim.EXIT_RATE])
def test_a_split_that_certifies_nothing_counts_as_stricter_than_all(aim: Aim, criterion: Criterion) -> None:
    """The split shown is the median from the lax end, whichever end of the criterion that is."""
    value = {Aim.MAX_DROP: 0.012, Aim.EXIT_RATE: 0.9}[aim]
    (point,) = operating_points(random_predictions(460, seed=4), (target(aim, value),), criterion, repeats=15)
    assert point.certified
    assert point.certified_splits is not None
    assert 0.5 < point.certified_splits <= 1
    assert point.splits == round(15 * point.certified_splits)
    spread = point.threshold_spread[0]
    lax_is_low = aim is Aim.MAX_DROP if criterion is not Criterion.ENTROPY else aim is not Aim.MAX_DROP
    if point.certified_splits == 1:
        assert point.thresholds[0] == spread.median
    else:
        assert (point.thresholds[0] >= spread.median) == lax_is_low


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
    (point,) = operating_points(table, (target(Aim.MAX_DROP, 0.02),), repeats=1)
    assert point.verdict is Verdict.MISSED
    assert point.certified
    assert (point.top1.value, point.difference.value, point.met_splits) == (0, -1, 0)


def test_what_cannot_be_asked() -> None:
    """One stage has no exit, one image no halves, and a budget needs MACs."""
    aims = (target(Aim.BUDGET, 2e9),)
    with pytest.raises(AnalysisError, match="one stage has no exit"):
        operating_points(random_predictions(10, stages=("full",)), aims)
    with pytest.raises(AnalysisError, match="one image cannot be split"):
        operating_points(random_predictions(1), aims)
    with pytest.raises(AnalysisError, match="a budget needs MACs"):
        operating_points(random_predictions(10, macs=False), aims)
    with pytest.raises(UnreachableTargetError):
        operating_points(random_predictions(10), (target(Aim.BUDGET, 1e9),))


@pytest.mark.parametrize("criterion", Criterion)
def test_three_stages_have_two_thresholds(criterion: Criterion) -> None:
    """With more stages a threshold is chosen for each but the last."""
    table = random_predictions(150, stages=("one", "two", "three"))
    (point,) = operating_points(table, (target(Aim.BUDGET, 3e9),), criterion, repeats=3)
    assert len(point.thresholds) == len(point.threshold_spread) == 2


def test_thresholds_of_three_stages_are_certified_on_other_images() -> None:
    """With more stages the front is found on one half of the calibration images and tested on the other."""
    table = random_predictions(6_000, stages=("one", "two", "three"), seed=2)
    points = operating_points(table, (target(Aim.MAX_DROP, 0.03), target(Aim.BUDGET, 3e9)), repeats=3)
    for point in points:
        assert point.certified
        assert point.verdict is Verdict.MET
