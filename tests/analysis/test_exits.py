"""Tests of analysis/exits.py."""

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_predictions import predictions, random_predictions, tables

from lfvit_cli.analysis.exits import ExitCurve, exit_curve, pareto_front, simulate
from lfvit_cli.errors import AnalysisError
from lfvit_cli.evaluation.answers import describe
from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata, StageAnswers
from lfvit_cli.networks.stages import Output, Stage, walk
from lfvit_cli.policies import Criterion, ExitPolicy


def agrees(curve: ExitCurve, row: int, table: Predictions, criterion: Criterion) -> bool:
    """Whether a row of a curve is exactly what deciding image by image counts at its thresholds."""
    outcome = simulate(table, tuple(curve.thresholds[row].tolist()), criterion)
    stages = list(table.stages.values())
    first, last = stages[0].prediction == table.labels, stages[-1].prediction == table.labels
    hits = np.stack([np.asarray(stage.top5) for stage in stages])[outcome.stage, np.arange(len(table))]
    costs = np.sort(np.asarray(outcome.macs))
    assert curve.macs is not None
    assert curve.macs_p95 is not None
    assert curve.top5 is not None
    return bool(
        curve.exit_rate[row] == np.mean(outcome.stage < len(stages) - 1)
        and curve.top1[row] == np.mean(outcome.correct)
        and curve.top5[row] == np.mean(hits)
        and curve.macs[row] == np.mean(costs)
        and curve.macs_p95[row] == costs[-(-95 * len(costs) // 100) - 1]
        and curve.harm_rate[row] == np.mean(first & ~outcome.correct)
        and curve.gain_rate[row] == np.mean(~first & outcome.correct)
        and curve.lost[row] == np.sum(last & ~outcome.correct)
        and curve.won[row] == np.sum(~last & outcome.correct)
    )


@settings(deadline=None)
@given(table=tables(), criterion=st.sampled_from(Criterion))
def test_curve_agrees_with_simulation(table: Predictions, criterion: Criterion) -> None:
    """Every row of the curve is exactly what the per-image simulation counts, ties, 0 and 1 included."""
    curve = exit_curve(table, criterion)
    distinct = np.unique(getattr(table.stages["stage0"], criterion.column))
    assert len(curve) == len(distinct) + 1
    # An entropy exits below its threshold, which is the next number above it.
    expected = np.nextafter(distinct, np.inf, dtype=distinct.dtype) if criterion.exits_below else distinct
    assert sorted(curve.thresholds[:-1, 0]) == list(expected)
    assert all(agrees(curve, row, table, criterion) for row in range(len(curve)))
    assert np.all(np.diff(curve.exit_rate) < 0)
    assert (curve.exit_rate[0], curve.exit_rate[-1]) == (1, 0)


@settings(deadline=None)
@given(table=tables(), threshold=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
def test_any_threshold_lies_on_the_curve(table: Predictions, threshold: float) -> None:
    """A threshold between two confidences does what the next higher one does, and 0 and 1 are no exception."""
    curve = exit_curve(table)
    row = int(np.searchsorted(curve.thresholds[:-1, 0], np.float32(threshold)))
    outcome = simulate(table, (threshold,))
    assert curve.correct[row] == outcome.correct.sum()
    assert curve.answered[row].tolist() == np.bincount(outcome.stage, minlength=2).tolist()


@settings(deadline=None)
@given(table=tables())
def test_accuracy_is_first_stage_less_harm_plus_gain(table: Predictions) -> None:
    """Top-1 is that of the first stage, less harm, plus gain, and no curve has a NaN."""
    curve = exit_curve(table)
    first = (table.stages["stage0"].prediction == table.labels).sum()
    assert np.array_equal(curve.correct, first - curve.harmed + curve.gained)
    values = [curve.exit_rate, curve.top1, curve.macs, curve.harm_rate, curve.gain_rate]
    assert np.isfinite(np.array(values)).all()


@settings(deadline=None, max_examples=40)
@given(table=tables(stages=3, most=8))
def test_three_stages_trace_the_pareto_front(table: Predictions) -> None:
    """With three stages the rows are the Pareto front of every combination of thresholds, found by brute force."""
    candidates = [
        [*np.unique(table.stages[stage].confidence).tolist(), Criterion.CONFIDENCE.no_exit]
        for stage in ("stage0", "stage1")
    ]
    tried = set()
    for thresholds in itertools.product(*candidates):
        outcome = simulate(table, thresholds)
        tried.add((int(np.asarray(outcome.macs).sum()), int(outcome.correct.sum())))
    front = [
        (macs, correct)
        for macs, correct in sorted(tried)
        if not any(m <= macs and c >= correct and (m, c) != (macs, correct) for m, c in tried)
    ]
    curve = exit_curve(table)
    assert all(agrees(curve, row, table, Criterion.CONFIDENCE) for row in range(len(curve)))
    assert curve.macs is not None
    assert list(zip((curve.macs * len(table)).round().tolist(), curve.correct.tolist(), strict=True)) == front


def test_many_thresholds_are_swept_on_a_grid() -> None:
    """With too many combinations the thresholds are quantiles, and every row is still exact."""
    table = random_predictions(400, stages=("one", "two", "three"))
    curve = exit_curve(table, most_combinations=100)
    assert all(agrees(curve, row, table, Criterion.CONFIDENCE) for row in range(len(curve)))
    fine = exit_curve(table)
    assert fine.correct.max() >= curve.correct.max()
    assert len(fine) > len(curve)


def test_pareto_front_rises() -> None:
    """On a front, more cost always buys more accuracy."""
    front = pareto_front(exit_curve(random_predictions(200)))
    assert front.macs is not None
    assert np.all(np.diff(front.macs) > 0)
    assert np.all(np.diff(front.correct) > 0)


def test_hand_counted_case() -> None:
    """Four images counted by hand: at 0.75 two exit, one of them wrongly, and the other two go on."""
    table = predictions(
        labels=[0, 1, 2, 3],
        stages={"location": ([0, 0, 2, 0], [0.9, 0.75, 0.5, 0.25]), "focus": ([0, 1, 0, 3], [0.9, 0.9, 0.9, 0.9])},
    ).with_macs((10, 30))
    curve = exit_curve(table)
    assert curve.thresholds[:, 0] == pytest.approx([0.25, 0.5, 0.75, 0.9, 2.0])
    assert curve.exit_rate.tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert curve.correct.tolist() == [2, 3, 2, 3, 3]
    assert curve.harmed.tolist() == [0, 0, 1, 1, 1]
    assert curve.gained.tolist() == [0, 1, 1, 2, 2]
    assert curve.macs is not None
    assert curve.macs.tolist() == [10, 17.5, 25, 32.5, 40]
    assert curve.macs_p95 is not None
    assert curve.macs_p95.tolist() == [10, 40, 40, 40, 40]
    assert curve.last_correct == 3


def test_one_stage_is_one_point() -> None:
    """A network without an exit has one row, no threshold and no exit rate."""
    table = random_predictions(50, stages=("full",))
    curve = exit_curve(table)
    assert curve.thresholds.shape == (1, 0)
    assert curve.exit_rate.tolist() == [0]
    assert curve.correct[0] == (table.stages["full"].prediction == table.labels).sum()


def test_unknown_macs_stay_unknown() -> None:
    """Two stages are swept without MACs; more cannot be traded without them."""
    curve = exit_curve(random_predictions(20, macs=False))
    assert curve.macs is None
    assert curve.macs_p95 is None
    with pytest.raises(AnalysisError, match="MACs of the stages are unknown"):
        exit_curve(random_predictions(20, stages=("one", "two", "three"), macs=False))


def test_missing_criterion_is_told() -> None:
    """A table without the criterion's column says so."""
    table = predictions([0], {"location": ([0], [0.5]), "focus": ([0], [0.5])})
    object.__setattr__(table.stages["location"], "entropy", None)
    with pytest.raises(AnalysisError, match="no entropy column"):
        exit_curve(table, Criterion.ENTROPY)


def test_imagenet_is_swept_in_a_tenth_of_a_second() -> None:
    """50,000 images take under 0.1 s; the best of three, so that a busy machine does not fail the test."""
    table = random_predictions(50_000, classes=1000)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        curve = exit_curve(table)
        seconds.append(time.perf_counter() - start)
        assert curve.macs is not None
    assert min(seconds) < 0.1


def answering(logits: torch.Tensor) -> tuple[Stage, ...]:
    """Stages that answer with given logits (S, N, K); the images are their rows' numbers."""

    def stage(index: int) -> Stage:
        return Stage(f"stage{index}", lambda images, _: Output(logits[index][images]))

    return tuple(map(stage, range(len(logits))))


def described(logits: torch.Tensor, labels: torch.Tensor) -> Predictions:
    """The table that an evaluation makes of logits (S, N, K)."""
    answers = [{name: column.numpy() for name, column in describe(own, labels).items()} for own in logits]
    stages = {f"stage{index}": StageAnswers(**columns) for index, columns in enumerate(answers)}
    metadata = PredictionsMetadata(stages=tuple(stages), macs=(1, 2, 3)[: len(stages)])
    return Predictions(np.array([str(row) for row in labels], dtype=object), labels.numpy(), stages, metadata)


@st.composite
def stage_logits(draw: st.DrawFn) -> torch.Tensor:
    """Logits of two or three stages with ties and certainties among them, of more than ten classes too."""
    shape = (draw(st.integers(2, 3)), draw(st.integers(1, 8)), draw(st.sampled_from([1, 2, 3, 12])))
    values = st.one_of(st.sampled_from([0.0, 200.0]), st.floats(-8, 8, width=16))
    return torch.from_numpy(draw(hnp.arrays(np.float32, shape, elements=values)))


@settings(deadline=None)
@given(logits=stage_logits(), criterion=st.sampled_from(Criterion))
def test_every_threshold_of_a_sweep_is_what_the_network_does(logits: torch.Tensor, criterion: Criterion) -> None:
    """Image by image, for every criterion and two or three stages: the walk stops where the table says."""
    images, stages = torch.arange(logits.shape[1]), answering(logits)
    table = described(logits, torch.zeros_like(images))
    curve = exit_curve(table, criterion, most_combinations=100)
    for row in range(len(curve)):
        thresholds = tuple(curve.thresholds[row].tolist())
        seen = walk(stages, images, ExitPolicy(criterion=criterion, thresholds=thresholds))
        outcome = simulate(table, thresholds, criterion)
        assert outcome.stage.tolist() == seen.exit_stage.tolist()
        assert (logits[outcome.stage, images] == seen.logits).all()
        assert curve.answered[row].tolist() == seen.answered(len(stages))
    assert curve.answered[0, 0] == len(images)


@pytest.mark.parametrize("criterion", Criterion)
def test_no_exit_stops_no_image(criterion: Criterion) -> None:
    """However certain a stage is, every image of network and table goes on at the threshold for no exit."""
    logits = torch.tensor([[[500.0, 0.0], [0.0, 0.0]]]).repeat(2, 1, 1)
    table = described(logits, torch.zeros(2, dtype=torch.int64))
    policy = ExitPolicy.at(criterion.no_exit, criterion=criterion)
    assert walk(answering(logits), torch.arange(2), policy).exit_stage.tolist() == [1, 1]
    assert simulate(table, policy.thresholds, criterion).stage.tolist() == [1, 1]


@pytest.mark.parametrize("criterion", Criterion)
def test_what_is_no_number_goes_on(criterion: Criterion) -> None:
    """Logits without an order never exit, neither in the network nor in the table."""
    logits = torch.tensor([[[torch.nan, 0.0], [9.0, 0.0]]]).repeat(2, 1, 1)
    table = described(logits, torch.zeros(2, dtype=torch.int64))
    policy = ExitPolicy.at(0.6, criterion=criterion)
    assert walk(answering(logits), torch.arange(2), policy).exit_stage.tolist() == [1, 0]
    assert simulate(table, policy.thresholds, criterion).stage.tolist() == [1, 0]


@settings(deadline=None, max_examples=40)
@given(table=tables(stages=4, most=12), criterion=st.sampled_from(Criterion))
def test_one_threshold_for_all_stages_is_always_tried(table: Predictions, criterion: Criterion) -> None:
    """However few combinations are, the front is at least as good as every threshold that all stages share."""
    curve = exit_curve(table, criterion, most_combinations=1)
    assert all(agrees(curve, row, table, criterion) for row in range(len(curve)))
    assert curve.macs is not None
    values = [getattr(answers, criterion.column) for answers in table.stages.values()]
    for value in np.unique(np.concatenate(values[:-1])):
        threshold = np.nextafter(value, np.float32(9)) if criterion.exits_below else value
        outcome = simulate(table, (float(threshold),) * 3, criterion)
        cheaper = curve.macs <= np.mean(np.asarray(outcome.macs)) * (1 + 1e-12)
        assert curve.correct[cheaper].max() >= outcome.correct.sum()


@pytest.mark.parametrize("criterion", Criterion)
def test_rounding_beyond_the_range_makes_no_threshold_outside_it(criterion: Criterion) -> None:
    """A foreign confidence just above 1, or entropy just below 0, gives thresholds that a policy may have."""
    table = random_predictions(6)
    values = np.array([-1e-6, 1 + 1e-6, 0.25, 0.5, 0.75, 1.0])
    object.__setattr__(table.stages["location"], criterion.column, values)
    curve = exit_curve(table, criterion)
    for threshold in curve.thresholds[:-1, 0]:
        criterion.check(float(threshold))
    assert all(agrees(curve, row, table, criterion) for row in range(len(curve)))
    assert curve.exit_rate[[0, -1]].tolist() == [1, 0]


def test_stages_of_different_precision_are_compared_exactly() -> None:
    """Where a foreign file has one stage in single and another in double precision, the counts still hold."""
    table = random_predictions(60, stages=("one", "two", "three"))
    object.__setattr__(table.stages["two"], "confidence", table.stages["two"].confidence.astype(float) ** 1.0001)
    curve = exit_curve(table, most_combinations=100)
    assert all(agrees(curve, row, table, Criterion.CONFIDENCE) for row in range(len(curve)))
