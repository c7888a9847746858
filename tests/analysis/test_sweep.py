"""Tests of analysis/sweep.py."""

import json

import jsonschema
import numpy as np
import pytest
from made_predictions import random_predictions

from lfvit_cli.analysis.exits import simulate
from lfvit_cli.analysis.sweep import SweepRecord, SweepSettings, sweep, sweep_record
from lfvit_cli.analysis.targets import Aim, Target
from lfvit_cli.policies import Criterion


@pytest.mark.parametrize("stages", [("full",), ("location", "focus"), ("one", "two", "three")])
@pytest.mark.parametrize("macs", [True, False])
def test_record_is_whole_and_valid_json(stages: tuple[str, ...], macs: bool) -> None:
    """A record of any number of stages holds to its own schema, and comes back from JSON as it was."""
    if len(stages) > 2 and not macs:
        pytest.skip("more than two stages are traded by their MACs")
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
    """Unknown MACs, untrained weights and a network without an exit are told."""
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
        "b: one stage only, so a point and no curve",
    ]
