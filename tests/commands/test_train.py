"""Tests of commands/train.py."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluating import run_here
from made_training import DEIT, DYNAMIC_VIT, LF_VIT, copy_photos, interrupt_when, train_together
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lfvit_cli.commands import train as command
from lfvit_cli.networks import method
from lfvit_cli.networks.build import build
from lfvit_cli.networks.method import methods
from lfvit_cli.training.checkpoints import load_checkpoint

Run = Callable[..., tuple[int, str, str]]
SHORT = ["--device", "cpu", "--precision", "float32", "--epochs", "2", "--batch-size", "8"]
# A network from outside, with a loss of its own.
OUTSIDE = """
from lfvit_cli.networks.method import Method, register
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.training.objectives import StagesObjective

class Mine(PlainViT):
    def answer(self, images, _=None):
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return Output(self.classify(tokens))

class Doubled(StagesObjective):
    def combine(self, losses):
        return 2 * losses.sum()

register(Method("Mine", Mine, {"mine_own": {}}, objective=Doubled, training="twice the cross entropy"))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen photos of two classes to train on, four to validate on."""
    return str(copy_photos(tmp_path_factory.mktemp("photos")))


@pytest.fixture
def lfvit_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``lfvit`` in an empty folder and this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = run_here(list(arguments), monkeypatch, capsys)
        return code, out, err

    return run


@pytest.fixture
def train(lfvit_here: Run, photos: str) -> Run:
    """Run ``lfvit train`` on the narrow LF-ViT."""
    return lambda *arguments: lfvit_here("train", LF_VIT, "--data", photos, *SHORT, *arguments)


def test_a_training_leaves_its_files(train: Run, tmp_path: Path) -> None:
    """JSON on stdout has a row an epoch, which metrics.csv has too; the talk says what is trained, and from where."""
    code, out, err = train("--format", "json")
    assert code == 0, err
    rows = json.loads(out)
    folder = tmp_path / "reports" / "train" / "lf_deit_tiny"
    with (folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in rows]
    assert {"location_top1", "focus_top1", "location_loss", "focus_loss"} <= set(table[0])
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])
    assert "parameters start fresh" in err
    assert "training: the published losses: the focus pass learns from the labels" in err
    assert "trained weights: reports/train/lf_deit_tiny/lf_deit_tiny.safetensors" in err


def test_its_weights_are_a_checkpoint_of_other_commands(train: Run, photos: str, lfvit_here: Run) -> None:
    """The evaluation takes the final file and finds the accuracy of the last epoch."""
    code, out, err = train("--format", "json", "-o", "out")
    assert code == 0, err
    last = json.loads(out)[-1]
    options = ["--checkpoint", "out/lf_deit_tiny.safetensors", "--data", photos, "--workers", "0", "--format", "json"]
    code, out, err = lfvit_here("evaluate", LF_VIT, *options, "--device", "cpu")
    assert code == 0, err
    assert [row["top1"] for row in json.loads(out)] == [last["location_top1"], last["focus_top1"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "speed=3"], "there is no hyperparameter 'speed'"),
        (["--set", "flip=3"], "flip=3: Input should be less than or equal to 1"),
        (["--set", "repeats=1000000000"], "repeats=1000000000: Input should be less than or equal to 100"),
        (["--set", "lr=1e999"], "lr=inf: Input should be a finite number"),
        (["--set", "flip"], "'flip' is not NAME=VALUE"),
        (["--epochs", "1000000000"], "Invalid value for '--epochs'"),
        (["--recipe", "none"], "'none' is not one of"),
    ],
)
def test_bad_usage(train: Run, arguments: list[str], said: str) -> None:
    """A hyperparameter that does not exist, or cannot have its value, exits with 2."""
    code, out, err = train(*arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())


def test_bounds_of_options_are_those_of_the_recipe() -> None:
    """What an option refuses, --set refuses, too."""
    from lfvit_cli.training.settings import Recipe

    fields = Recipe.model_json_schema()["properties"]
    assert fields["epochs"]["maximum"] == command.MOST_EPOCHS
    assert fields["batch_size"]["maximum"] == fields["accumulate"]["maximum"] == command.MOST_PHOTOS


def test_mistakes_are_one_line(train: Run) -> None:
    """A teacher without weights, and a batch that the photos do not fill, are told in one line with a remedy."""
    code, _, err = train("--teacher", "deit_tiny_patch16_224")
    assert code == 1
    assert err.splitlines()[-1].endswith("has no weights. Add --teacher-checkpoint.")
    code, _, err = train("--batch-size", "64")
    assert code == 1
    assert err.splitlines()[-1] == "error: one update takes 64 photos, and there are 16. Choose a smaller --batch-size."


def test_interrupted_training_goes_on_with_resume(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130 and says how to go on; with --resume the training equals an unbroken one."""
    whole = ("--format", "json", "--threads", "1", "-o")
    code, expected, err = train(*whole, "whole")
    assert code == 0, err
    save = command._save

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "_save", interrupted)
    code, out, err = train(*whole, "out")
    assert (code, out) == (130, "")
    assert err.splitlines()[-2:] == [
        "what is done is saved: the same command with --resume goes on from there",
        "error: interrupted",
    ]
    monkeypatch.setattr(command, "_save", save)
    code, out, err = train(*whole, "out", "--resume")
    assert code == 0, err
    assert [_untimed(row) for row in json.loads(out)] == [_untimed(row) for row in json.loads(expected)]


def _untimed(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_interrupt_ends_a_process(photos: str, tmp_path: Path) -> None:
    """A signal from outside: what is under way is saved, and the other 500 epochs are not waited for."""
    options = [*SHORT[:-4], "--epochs", "500", "--batch-size", "8", "-o", "out"]
    code, said = interrupt_when(
        lambda: bool(list(tmp_path.glob("out/checkpoints/update-*"))),
        ["train", LF_VIT, "--data", photos, *options],
        tmp_path,
    )
    assert code == 130, said
    assert said.splitlines()[-1] == "error: interrupted"
    (saved,) = tmp_path.glob("out/checkpoints/update-*")
    assert load_checkpoint(saved).epoch < 500


def test_imported_networks_are_trained_and_their_code_is_kept(
    lfvit_here: Run, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the objective that the method brings; a changed file is refused by name when the training is resumed."""
    monkeypatch.setattr(method, "_METHODS", list(methods()))  # other tests are not to know the method
    file = tmp_path / "mine.py"
    file.write_text(OUTSIDE)
    asked = ["train", "mine_own:depth=2,embed_dim=24,num_heads=3,img_size=64", "--data", photos, *SHORT, "-o", "out"]
    code, _, err = lfvit_here(*asked, "--import", "mine.py")
    assert code == 0, err
    assert "training: twice the cross entropy" in err
    file.write_text(f"{OUTSIDE}# changed")
    code, _, err = lfvit_here(*asked, "--import", "mine.py", "--resume")
    assert code == 1
    assert "it differs in the code of mine.py. Give the same settings, or name another --output." in err


def unpruned_teacher(folder: Path) -> list[str]:
    """The options of a teacher for ``DYNAMIC_VIT``: the plain network of its size, with weights in the folder."""
    network: Any = build(DEIT, num_classes=2)
    torch.save(network.state_dict(), folder / "teacher.pth")
    return ["--teacher", DEIT, "--teacher-checkpoint", str(folder / "teacher.pth")]


@pytest.mark.parametrize("model", [LF_VIT, DYNAMIC_VIT])
def test_two_processes_train_as_one(lfvit_here: Run, photos: str, tmp_path: Path, model: str) -> None:
    """With the batch halved, two processes make the same updates as one, mixup and all; only the main one talks."""
    recipe = ["--set", "mixup=0.8", "--set", "optimizer=sgd", "--lr", "0.1", "--set", "final_form_from=0.5"]
    if model == DYNAMIC_VIT:
        recipe += unpruned_teacher(tmp_path)
    command = ["train", model, "--data", photos, *SHORT, *recipe]
    code, _, err = lfvit_here(*command, "-o", "one")
    assert code == 0, err
    talk, silence = train_together(2, [*command, "--batch-size", "4", "-o", "two"], tmp_path)
    ours, theirs = (load_file(tmp_path / name / f"{model.partition(':')[0]}.safetensors") for name in ("one", "two"))
    for name, value in ours.items():
        assert np.allclose(value, theirs[name], atol=1e-5), name
    assert talk.count("trained weights: ") == 1
    assert "trained weights: " not in silence
