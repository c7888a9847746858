"""Tests of commands/train.py."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluating import run_here
from made_training import LF_VIT, SPECS, copy_photos
from running import Run
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lfvit_cli.networks.build import build

Train = Callable[..., tuple[int, str, str]]
DYNAMIC_VIT = SPECS[2]
SHORT = ["--device", "cpu", "--precision", "float32", "--epochs", "2", "--batch-size", "8"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen photos of two classes to train on, four to validate on."""
    return str(copy_photos(tmp_path_factory.mktemp("photos")))


@pytest.fixture
def train(photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Run ``lfvit train`` on the narrow LF-ViT, in an empty folder and this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = run_here(["train", LF_VIT, "--data", photos, *SHORT, *arguments], monkeypatch, capsys)
        return code, out, err

    return run


def test_a_training_leaves_its_files(train: Train, tmp_path: Path) -> None:
    """JSON on stdout has a row an epoch, which metrics.csv has too; the talk says where the weights came from."""
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
    assert "trained weights: reports/train/lf_deit_tiny/lf_deit_tiny.safetensors" in err


def test_its_weights_are_a_checkpoint_of_other_commands(train: Train, photos: str, lfvit: Run) -> None:
    """The evaluation takes the final file and finds the accuracy of the last epoch."""
    code, out, err = train("--format", "json", "-o", "out")
    assert code == 0, err
    last = json.loads(out)[-1]
    options = ["--checkpoint", "out/lf_deit_tiny.safetensors", "--data", photos, "--workers", "0", "--format", "json"]
    done = lfvit("evaluate", LF_VIT, *options, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert [row["top1"] for row in json.loads(done.stdout)] == [last["location_top1"], last["focus_top1"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "speed=3"], "there is no hyperparameter 'speed'"),
        (["--set", "flip=3"], "flip=3: Input should be less than or equal to 1"),
        (["--set", "flip"], "'flip' is not NAME=VALUE"),
        (["--recipe", "none"], "'none' is not one of"),
    ],
)
def test_bad_usage(train: Train, arguments: list[str], said: str) -> None:
    """A hyperparameter that does not exist, or cannot have its value, exits with 2."""
    code, out, err = train(*arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())


def test_mistakes_are_one_line(train: Train) -> None:
    """A teacher without weights, and a batch that the photos do not fill, are told in one line with a remedy."""
    code, _, err = train("--teacher", "deit_tiny_patch16_224")
    assert code == 1
    assert err.splitlines()[-1].endswith("has no weights. Add --teacher-checkpoint.")
    code, _, err = train("--batch-size", "64")
    assert code == 1
    assert err.splitlines()[-1] == "error: 16 photos make no update of 64. Choose a smaller --batch-size."


def interrupted(command: list[str], folder: Path) -> list[str]:
    """Start a training, interrupt it after the next checkpoint, and return what it said."""
    before = checkpoint_names(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not checkpoint_names(folder) - before and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    return said.splitlines()


def checkpoint_names(folder: Path) -> set[str]:
    """Of whole checkpoints."""
    return {path.name for path in folder.glob("out/checkpoints/update-*")}


def test_interrupt_saves_and_resume_goes_on(photos: str, tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and says how to go on; with --resume the training goes on from there."""
    options = [*SHORT[:-4], "--epochs", "500", "--batch-size", "8", "-o", "out"]
    command = [sys.executable, "-m", "lfvit_cli", "train", LF_VIT, "--data", photos, *options]
    assert interrupted(command, tmp_path)[-2:] == [
        "what is done is saved: the same command with --resume goes on from there",
        "error: interrupted",
    ]
    first = max(checkpoint_names(tmp_path))
    interrupted([*command, "--resume"], tmp_path)
    assert max(checkpoint_names(tmp_path)) > first


def unpruned_teacher(folder: Path) -> list[str]:
    """The options of a teacher for ``DYNAMIC_VIT``: the plain network of its size, with weights in the folder."""
    network: Any = build(SPECS[1], num_classes=2)
    torch.save(network.state_dict(), folder / "teacher.pth")
    return ["--teacher", SPECS[1], "--teacher-checkpoint", str(folder / "teacher.pth")]


@pytest.mark.parametrize("model", [LF_VIT, DYNAMIC_VIT])
def test_two_processes_train_as_one(run_python: Run, photos: str, tmp_path: Path, model: str) -> None:
    """With the batch halved, two processes make the same updates as one, mixup and all; only the main one talks."""
    recipe = ["--set", "mixup=0.8", "--set", "optimizer=sgd", "--lr", "0.1", "--set", "final_form_from=0.5"]
    if model == DYNAMIC_VIT:
        recipe += unpruned_teacher(tmp_path)
    command = ["-m", "lfvit_cli", "train", model, "--data", photos, *SHORT, *recipe]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    one = run_python(*command, "-o", "one")
    two = run_python(*launch, *command, "--batch-size", "4", "-o", "two")
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    ours, theirs = (load_file(tmp_path / name / f"{model.partition(':')[0]}.safetensors") for name in ("one", "two"))
    for name, value in ours.items():
        assert np.allclose(value, theirs[name], atol=1e-5), name
    assert two.stderr.count("trained weights: ") == 1
