"""Tests of analysis/sweep.py."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.exits import simulate
from lfvit_cli.analysis.sweep import SweepRecord, SweepSettings, policy_of, sweep, sweep_record
from lfvit_cli.analysis.targets import Aim, Target
from lfvit_cli.evaluation.table import Predictions
from lfvit_cli.policies import Criterion, read_policy


@pytest.mark.parametrize(
    ("stages", "macs"),
    [
        (("full",), True),
        (("full",), False),
        (("location", "focus"), True),
        (("location", "focus"), False),
        (("one", "two", "three"), True),  # More than two stages are traded by their MACs.
    ],
)
def test_record_is_whole_and_valid_json(stages: tuple[str, ...], macs: bool) -> None:
    """A record of any number of stages holds to its own schema, and comes back from JSON as it was."""
    table = random_predictions(60, stages=stages, macs=macs)
    settings = SweepSettings(repeats=3)
    record = sweep_record([sweep(table, "p.parquet", "made", settings)], settings)
    document = json.loads(record.model_dump_json())
    jsonschema.validate(document, SweepRecord.model_json_schema(mode="serialization"))
    assert SweepRecord.model_validate_json(record.model_dump_json()) == record
    assert {"curve", "operating_points", "reference_curves", "environment"} <= document.keys()
    assert len(document["operating_points"]) == (3 if len(stages) > 1 else 0)
    assert (document["area"] is None) == (len(stages) == 1)
    assert len(document["calibration"]) == len(stages)


@pytest.mark.parametrize("criterion", Criterion)
def test_points_are_thresholds_one_can_use(criterion: Criterion) -> None:
    """The number written as threshold, read back from JSON, gives the exit rate and top-1 beside it."""
    table = random_predictions(80)
    settings = SweepSettings(criterion=criterion, repeats=2)
    record = sweep_record([sweep(table, "p.parquet", "made", settings)], settings)
    curve = json.loads(record.model_dump_json())["curve"]
    distinct = np.unique(getattr(table.stages["location"], criterion.column))
    assert len(curve) == len(distinct) + 1
    for point in curve:
        outcome = simulate(table, (point["threshold"],), criterion)
        assert point["exit_rate"] == (outcome.stage == 0).mean()
        assert point["top1"] == outcome.correct.mean()
        assert point["macs"] == np.asarray(outcome.macs).mean()
        assert point["top1_low"] <= point["top1"] <= point["top1_high"]


def test_classes_are_those_of_the_first_operating_point() -> None:
    """The class table stands at the threshold that the record names."""
    table = random_predictions(120)
    settings = SweepSettings(targets=(Target(aim=Aim.EXIT_RATE, value=0.5),), repeats=3)
    result = sweep(table, "p.parquet", "made", settings)
    (point,) = result.operating_points
    assert (result.class_threshold,) == point.thresholds
    exits = sum(each.images * each.exit_rate for each in result.classes)
    assert exits == pytest.approx((simulate(table, point.thresholds).stage == 0).sum())


def test_warnings_say_what_spoils_the_numbers() -> None:
    """Unknown MACs and untrained weights are told, and that no network has exits where none has."""
    settings = SweepSettings(repeats=2)
    unknown = random_predictions(20, macs=False)
    untrained = random_predictions(20, stages=("full",))
    metadata = untrained.metadata.model_copy(update={"trained": False})
    sweeps = [
        sweep(unknown, "a.csv", "a", settings),
        sweep(type(untrained)(untrained.images, untrained.labels, untrained.stages, metadata), "b.csv", "b", settings),
    ]
    record = sweep_record(sweeps, settings)
    assert [other.name for other in record.others] == ["b"]
    assert [warning.partition(";")[0] for warning in record.warnings] == [
        "a: the MACs are unknown",
        "b: the weights are untrained, so its accuracy means nothing",
    ]
    *_, told = sweep_record(sweeps[1:], settings).warnings
    assert told.startswith("every network here has one stage")


def test_each_table_keeps_the_criterion_of_its_method() -> None:
    """Unless one is asked for, a table is swept by its own criterion, and one that names none by confidence."""
    own, foreign = random_predictions(40), random_predictions(40, seed=1)
    metadata = own.metadata.model_copy(update={"criterion": Criterion.TOP10_ENTROPY})
    own = Predictions(own.images, own.labels, own.stages, metadata)
    for asked, expected in ((None, ["top10-entropy", "confidence"]), (Criterion.MARGIN, ["margin"] * 2)):
        settings = SweepSettings(criterion=asked, repeats=2, targets=(Target(aim=Aim.EXIT_RATE, value=0.5),))
        sweeps = [sweep(table, "p.parquet", "made", settings) for table in (own, foreign)]
        assert [each.criterion for each in sweeps] == expected
        assert [policy_of(each, each.operating_points[0]).criterion for each in sweeps] == expected
        assert [len(each.curve) for each in sweeps] == [
            len(np.unique(getattr(table.stages["location"], each.criterion.column))) + 1
            for table, each in zip((own, foreign), sweeps, strict=True)
        ]


@pytest.mark.parametrize("stages", [("location", "focus"), ("one", "two", "three")])
def test_the_policy_is_that_of_its_operating_point(stages: tuple[str, ...], tmp_path: Path) -> None:
    """Written and read back, it has the thresholds, the stages and what they were chosen for."""
    settings = SweepSettings(targets=(Target(aim=Aim.EXIT_RATE, value=0.5),), repeats=3)
    made = sweep(random_predictions(200, stages=stages), "p.parquet", "made", settings)
    (point,) = made.operating_points
    (tmp_path / "policy.json").write_text(policy_of(made, point).text())
    found = read_policy(tmp_path / "policy.json")
    assert (found.model, found.stages, found.target) == ("lf_deit_small", stages, "exit rate ≥ 50 %")
    assert found.thresholds == point.thresholds
    assert len(found.thresholds) == len(stages) - 1
    assert found.certified == point.certified


def test_rivals_are_matched_by_their_images() -> None:
    """In another order they give the same difference; about other images they are left out."""
    table, rival = random_predictions(80), random_predictions(80, stages=("full",))
    turned = rival.take(np.arange(80)[::-1])
    settings = SweepSettings(repeats=3)
    found = [sweep(table, "p.parquet", "made", settings, {"rival": each}) for each in (rival, turned)]
    assert found[0].operating_points[0].against.keys() == {"rival"}
    assert found[0] == found[1]
    fewer = sweep(table, "p.parquet", "made", settings, {"rival": rival.take(np.arange(79))})
    assert fewer.operating_points[0].against == {}
