"""Tests of training/loop.py."""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from made_training import DEIT, DYNAMIC_VIT, EVO_VIT, LF_VIT, copy_photos, run_training, settings
from torch import Tensor

from lfvit_cli.errors import NonFiniteLoss, TrainingError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.training import data
from lfvit_cli.training.checkpoints import latest, load_checkpoint, write_final
from lfvit_cli.training.job import TrainingJob
from lfvit_cli.training.loop import checkpoint_folder, listening
from lfvit_cli.training.metrics import EpochMetrics, validate

LIVELY: dict[str, Any] = {"ema_decay": 0.9, "drop_path": 0.2, "mixup": 0.8, "erasing": 0.5, "clip_grad": 1.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photos of two classes to train on, four to validate on."""
    return copy_photos(tmp_path_factory.mktemp("photos"))


def weights(job: TrainingJob) -> dict[str, Tensor]:
    """Of the network as it is now, and of its moving average."""
    judged = {f"ema.{name}": value for name, value in job.judged.state_dict().items()}
    return {**job.network.state_dict(), **judged}


def without_time(epochs: Sequence[EpochMetrics]) -> list[dict[str, float]]:
    """The rows of a table but for the seconds."""
    return [{name: value for name, value in epoch.row().items() if name != "seconds"} for epoch in epochs]


def same(one: tuple[TrainingJob, list[EpochMetrics]], other: tuple[TrainingJob, list[EpochMetrics]]) -> bool:
    """Whether two trainings have the same weights, bit for bit, and the same metrics."""
    equal = [value.equal(weights(other[0])[name]) for name, value in weights(one[0]).items()]
    return all(equal) and without_time(one[1]) == without_time(other[1])


@pytest.mark.parametrize(
    ("spec", "stop_after", "cached"), [(LF_VIT, 1, True), (DYNAMIC_VIT, 3, True), (EVO_VIT, 2, True), (DEIT, 2, False)]
)
def test_resumed_training_equals_an_unbroken_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, stop_after: int, cached: bool
) -> None:
    """Interrupted within an epoch or in its last update, and resumed: bit for bit the same weights and metrics.

    Whether photos are kept in memory or read anew each time.
    """
    monkeypatch.setattr(data, "SHARE_OF_MEMORY", 0.5 if cached else 0)
    asked = settings(photos, spec, workers=0, **LIVELY)
    whole = run_training(asked, tmp_path / "whole")

    def interrupt(done: int, _total: int, _what: str) -> None:
        # Called after an update: the next one is the last.
        if done == stop_after:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_training(asked, tmp_path / "broken", report=interrupt)
    saved = latest(checkpoint_folder(tmp_path / "broken"))
    assert saved is not None
    assert saved.name == f"update-{stop_after + stop_after % 2:08d}.pth"
    torch.manual_seed(99)
    assert same(run_training(asked, tmp_path / "broken", resume=True), whole)


def test_interrupted_validation_is_made_up_for(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop between an epoch's last update and its end loses neither: the resumed training validates first."""
    asked = settings(photos, DEIT, epochs=1)
    whole = run_training(asked, tmp_path / "whole")

    def interrupted(job: TrainingJob, stop: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return validate(job, stop)

    monkeypatch.setattr("lfvit_cli.training.loop.validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_training(asked, tmp_path / "broken")
    monkeypatch.undo()
    saved = load_checkpoint(tmp_path / "broken" / "checkpoints" / "update-00000002.pth")
    assert (saved.epoch, saved.update, saved.metrics) == (0, 2, [])
    assert same(run_training(asked, tmp_path / "broken", resume=True), whole)


def test_accumulated_passes_equal_a_larger_batch(photos: Path, tmp_path: Path) -> None:
    """Two passes of four photos an update train as one of eight, up to rounding."""
    # SGD, because AdamW's first steps are but signs, which rounding can turn.
    one, _ = run_training(settings(photos, optimizer="sgd", lr=0.1), tmp_path / "one")
    two, _ = run_training(settings(photos, optimizer="sgd", lr=0.1, batch_size=4, accumulate=2), tmp_path / "two")
    for name, value in weights(one).items():
        assert torch.allclose(value, weights(two)[name], atol=1e-5), name


def test_training_learns(photos: Path, tmp_path: Path) -> None:
    """The loss of the last epoch is well below that of the first."""
    asked = settings(photos, DEIT, epochs=20, lr=5e-3, batch_size=16, crop_scale=(1.0, 1.0), flip=0)
    _, epochs = run_training(asked, tmp_path)
    assert epochs[-1].losses["loss"] < 0.9 * epochs[0].losses["loss"]


def test_a_teacher_is_learned_from(photos: Path, tmp_path: Path) -> None:
    """DynamicViT takes logits and tokens of the DeiT trained before it; the teacher stays as it is."""
    deit, epochs = run_training(settings(photos, DEIT, epochs=1), tmp_path / "teacher")
    teaching: dict[str, Any] = {"teacher": DEIT, "teacher_checkpoint": str(write_final(deit, epochs[-1]))}
    job, epochs = run_training(settings(photos, DYNAMIC_VIT, epochs=1, **teaching), tmp_path / "student")
    assert set(epochs[0].losses) == {"loss", "class", "ratio", "logits", "tokens"}
    assert job.teacher is not None
    for name, value in job.teacher.state_dict().items():
        assert value.equal(deit.network.state_dict()[name])
    with pytest.raises(TrainingError, match="learns nothing from a teacher"):
        run_training(settings(photos, LF_VIT, **teaching), tmp_path / "deaf")


def test_non_finite_loss_stops_the_training(photos: Path, tmp_path: Path) -> None:
    """A rate that blows the weights up, naming update and rate; no later checkpoint is written."""
    with pytest.raises(NonFiniteLoss, match=r"the loss is (nan|inf) at update \d+, at a learning rate of .*e\+(29|30)"):
        run_training(settings(photos, optimizer="sgd", lr=1e30, warmup=0, epochs=4), tmp_path)


def test_a_training_is_neither_overwritten_nor_confused(photos: Path, tmp_path: Path) -> None:
    """A folder in use, one with nothing to resume, and other settings, code or photos are refused."""
    code = {"net.py": "1"}
    used = tmp_path / "used"
    run_training(settings(photos, epochs=1, imports=code), used)
    with pytest.raises(TrainingError, match=r"there is a training in .* already"):
        run_training(settings(photos, epochs=1, imports=code), used)
    with pytest.raises(TrainingError, match="no checkpoint to go on from"):
        run_training(settings(photos, epochs=1), tmp_path / "empty", resume=True)
    with pytest.raises(TrainingError, match=r"differs in lr, seed, the code of net\.py"):
        run_training(settings(photos, epochs=1, imports={"net.py": "2"}, lr=2e-3, seed=4), used, resume=True)
    for split, named in (("train", "training photos"), ("validation", "validation photos")):
        fewer = tmp_path / split
        shutil.copytree(photos, fewer)
        list_folder(fewer, split=split).file(0).unlink()
        with pytest.raises(TrainingError, match=f"it differs in {named}. Give"):
            run_training(settings(fewer, epochs=1, imports=code), used, resume=True)


def test_an_objective_without_a_loss_is_told(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from outside may give anything."""
    monkeypatch.setattr("lfvit_cli.training.objectives.StagesObjective.forward", lambda *_: {"los": torch.zeros(())})
    with pytest.raises(TrainingError, match="gives no 'loss'"):
        run_training(settings(photos, DEIT), tmp_path)


def test_a_second_interrupt_does_not_wait() -> None:
    """The first Ctrl-C is noted, the second breaks off; afterwards Python's own handler is back."""
    before = signal.getsignal(signal.SIGINT)
    with listening() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.made
        signal.raise_signal(signal.SIGTERM)  # a launcher's, right after: no reason to break off
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
