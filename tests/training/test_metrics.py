"""Tests of training/metrics.py."""

from typing import Any

import pytest
import torch
from made_training import LF_VIT, copy_photos, quiet, settings

from lfvit_cli.images.transforms import normalise
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.training.job import TrainingJob, prepare
from lfvit_cli.training.metrics import EpochMetrics, RunningMean, from_data, validate


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """A training made ready, with ten photos to validate on, in batches of two."""
    folder = tmp_path_factory.mktemp("training")
    photos = copy_photos(folder / "photos", train=4, validation=10)
    return prepare(settings(photos, LF_VIT, batch_size=1), folder, quiet)


def test_every_stage_is_counted(job: TrainingJob) -> None:
    """Top-1 is what the network answers for the validation photos; afterwards it trains as before."""
    job.network.train()
    found = validate(job, lambda: False)
    assert job.network.training
    network: Any = job.network.eval()
    batch = next(job.validation.batches([torch.arange(10)]))
    with torch.inference_mode():
        outputs = walk(stages_of(network), normalise(batch.pixels, job.transform)).outputs
    right = [(output.logits.argmax(1) == batch.labels).float().mean().item() for output in outputs]
    assert found is not None
    assert list(found) == ["location", "focus"]
    assert list(found.values()) == pytest.approx(right)


def test_validation_stops_when_asked(job: TrainingJob) -> None:
    """After the batch under way, without an answer."""
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 2

    assert validate(job, stop) is None
    assert len(asked) == 2


def test_means_are_over_the_steps() -> None:
    """Also over those before an interruption."""
    means = RunningMean()
    means.add({"loss": 1.0, "part": 2.0})
    resumed = RunningMean(means.sums, means.steps)
    resumed.add({"loss": 3.0, "part": 0.0})
    assert resumed.means() == {"loss": 2.0, "part": 1.0}


def test_rows_name_losses_and_stages() -> None:
    """The columns of metrics.csv; an epoch goes through plain data unchanged."""
    epoch = EpochMetrics(1, 2, 0.1, {"loss": 3.0, "focus": 4.0}, {"focus": 0.5}, 6.0)
    assert epoch.row() == {
        "epoch": 1,
        "updates": 2,
        "lr": 0.1,
        "loss": 3.0,
        "focus_loss": 4.0,
        "focus_top1": 0.5,
        "seconds": 6.0,
    }
    assert from_data([list(epoch)]) == [epoch]
