"""Tests of training/loop.py, with its checkpoints and its final file."""

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from made_training import LF_VIT, SPECS, copy_photos, quiet, settings
from safetensors import safe_open
from torch import Tensor

from lfvit_cli.errors import NonFiniteLoss, TrainingError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.networks.build import build
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.training.checkpoints import latest, load_checkpoint
from lfvit_cli.training.final import write_final
from lfvit_cli.training.job import Report, TrainingJob, prepare
from lfvit_cli.training.loop import checkpoint_folder, train
from lfvit_cli.training.metrics import EpochMetrics
from lfvit_cli.training.settings import TrainSettings


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photos of two classes to train on, four to validate on."""
    return copy_photos(tmp_path_factory.mktemp("photos"))


def run(
    asked: TrainSettings, output: Path, *, resume: bool = False, report: Report = quiet
) -> tuple[TrainingJob, list[EpochMetrics]]:
    """Train in this process."""
    job = prepare(asked, output, quiet)
    return job, train(job, resume=resume, report=report, on_epoch=lambda _epochs: None)


def weights(job: TrainingJob) -> dict[str, Tensor]:
    """Of the network as it is now, and of its moving average."""
    judged = {f"ema.{name}": value for name, value in job.judged.state_dict().items()}
    return {**job.network.state_dict(), **judged}


def without_time(epochs: Sequence[EpochMetrics]) -> list[dict[str, float]]:
    """The rows of a table but for the seconds."""
    return [{name: value for name, value in epoch.row().items() if name != "seconds"} for epoch in epochs]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_resumed_training_equals_an_unbroken_one(photos: Path, tmp_path: Path, spec: str, stop_at: int) -> None:
    """Interrupted within an epoch, at its end or in the next, and resumed: bit for bit the same weights and metrics."""
    lively: dict[str, Any] = {"ema_decay": 0.9, "drop_path": 0.2, "mixup": 0.8, "erasing": 0.5, "clip_grad": 1.0}
    asked = settings(photos, spec, **lively)
    whole, expected = run(asked, tmp_path / "whole")

    def interrupt(done: int, _total: int, _what: str) -> None:
        if done == stop_at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        # The signal is heard before the next step, which is the last one done.
        run(asked, tmp_path / "broken", report=interrupt)
    done = int(latest(checkpoint_folder(tmp_path / "broken")).name[-8:])  # type: ignore[union-attr]
    assert done == stop_at + 1
    torch.manual_seed(99)
    resumed, epochs = run(asked, tmp_path / "broken", resume=True)
    assert without_time(epochs) == without_time(expected)
    for name, value in weights(whole).items():
        assert value.equal(weights(resumed)[name]), name


def test_accumulated_passes_equal_a_larger_batch(photos: Path, tmp_path: Path) -> None:
    """Two passes of four photos an update train as one of eight, up to rounding."""
    # SGD, because AdamW's first steps are but signs, which rounding can turn.
    one, _ = run(settings(photos, optimizer="sgd", lr=0.1), tmp_path / "one")
    two, _ = run(settings(photos, optimizer="sgd", lr=0.1, batch_size=4, accumulate=2), tmp_path / "two")
    for name, value in weights(one).items():
        assert torch.allclose(value, weights(two)[name], atol=1e-5), name


def test_training_learns(photos: Path, tmp_path: Path) -> None:
    """The loss of the last epoch is well below that of the first."""
    asked = settings(photos, SPECS[1], epochs=20, lr=2e-3, batch_size=16, crop_scale=(1.0, 1.0), flip=0)
    _, epochs = run(asked, tmp_path)
    assert epochs[-1].losses["loss"] < 0.9 * epochs[0].losses["loss"]


def test_final_file_says_what_it_is(photos: Path, tmp_path: Path) -> None:
    """It loads as a checkpoint of its model, in half precision, and its header names what made it."""
    asked = settings(photos, save_dtype="float16", epochs=1, drop_path=0.1)
    job, epochs = run(asked, tmp_path)
    path = write_final(job, epochs[-1])
    assert path == tmp_path / "lf_deit_tiny.safetensors"
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        assert file.get_tensor("head.weight").dtype == torch.float16
    assert header["model"] == LF_VIT
    assert json.loads(header["class_names"]) == list(job.splits.train.class_names)
    assert json.loads(header["keywords"])["num_classes"] == 2
    assert json.loads(header["transform"])["image_size"] == 224
    assert header["data_sha256"] == list_folder(photos, split="train").sha256
    assert json.loads(header["metrics"])["focus_top1"] == epochs[-1].top1["focus"]
    assert json.loads(header["recipe"])["epochs"] == 1
    loaded = build(LF_VIT, checkpoint=str(path))
    assert torch.allclose(loaded.state_dict()["head.weight"], weights(job)["head.weight"], atol=1e-3)


def test_validation_counts_every_stage(photos: Path, tmp_path: Path) -> None:
    """The last epoch's top-1 is what the trained network answers for the validation photos."""
    job, epochs = run(settings(photos, epochs=1), tmp_path)
    batch = next(job.validation.batches([torch.arange(4)]))
    from lfvit_cli.images.transforms import normalise

    network: Any = job.network.eval()
    seen = normalise(batch.pixels, job.transform)
    with torch.inference_mode():
        outputs = walk(stages_of(network), seen).outputs
    right = [(output.logits.argmax(1) == batch.labels) for output in outputs]
    assert epochs[-1].top1 == {
        stage: part.float().mean().item() for stage, part in zip(("location", "focus"), right, strict=True)
    }


def test_a_teacher_is_learned_from(photos: Path, tmp_path: Path) -> None:
    """DynamicViT takes logits and tokens of the DeiT trained before it; the teacher stays as it is."""
    deit, epochs = run(settings(photos, SPECS[1], epochs=1), tmp_path / "teacher")
    file = write_final(deit, epochs[-1])
    taught = settings(photos, SPECS[2], epochs=1, teacher=SPECS[1], teacher_checkpoint=str(file))
    job, epochs = run(taught, tmp_path / "student")
    assert set(epochs[0].losses) == {"loss", "class", "ratio", "logits", "tokens"}
    assert job.teacher is not None
    for name, value in job.teacher.state_dict().items():
        assert value.equal(deit.network.state_dict()[name])
    with pytest.raises(TrainingError, match="learns nothing from a teacher"):
        prepare(settings(photos, LF_VIT, teacher=SPECS[1], teacher_checkpoint=str(file)), tmp_path, quiet)


def test_non_finite_loss_stops_with_the_step(photos: Path, tmp_path: Path) -> None:
    """A rate that blows the weights up stops the training, naming update and rate; no later checkpoint is written."""
    with pytest.raises(NonFiniteLoss, match=r"the loss is (nan|inf) at update \d+, at a learning rate of .*e\+(29|30)"):
        run(settings(photos, optimizer="sgd", lr=1e30, warmup=0, epochs=4), tmp_path)


def test_a_training_is_neither_overwritten_nor_confused(photos: Path, tmp_path: Path) -> None:
    """A folder in use, one with nothing to resume, and other settings or photos are refused."""
    run(settings(photos, epochs=1), tmp_path / "used")
    with pytest.raises(TrainingError, match=r"there is a training in .* already"):
        run(settings(photos, epochs=1), tmp_path / "used")
    with pytest.raises(TrainingError, match="no checkpoint to go on from"):
        run(settings(photos, epochs=1), tmp_path / "empty", resume=True)
    with pytest.raises(TrainingError, match="differs in lr, seed"):
        run(settings(photos, epochs=1, lr=2e-3, seed=4), tmp_path / "used", resume=True)
    fewer = tmp_path / "photos"
    shutil.copytree(photos, fewer)
    list_folder(fewer, split="train").file(0).unlink()
    with pytest.raises(TrainingError, match="differs in photos"):
        run(settings(fewer, epochs=1), tmp_path / "used", resume=True)


def test_a_broken_checkpoint_is_told(photos: Path, tmp_path: Path) -> None:
    """Only whole checkpoints count, the newest stays alone, and a damaged one is named."""
    run(settings(photos), tmp_path)
    folder = checkpoint_folder(tmp_path)
    (folder / ".update-00000009.0000").mkdir()
    newest = latest(folder)
    assert newest is not None
    assert [path.name for path in folder.glob("update-*")] == [newest.name] == ["update-00000004"]
    (newest / "state.pt").write_bytes(b"half")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(newest)
