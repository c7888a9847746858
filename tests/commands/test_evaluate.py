"""Tests of commands/evaluate.py."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from evaluating import SPEC, answers, run_here, same_answers, save_checkpoint
from labelled import labelled_folder
from running import Run

from lfvit_cli.commands.evaluate import Interpolation
from lfvit_cli.evaluation.table import read_predictions
from lfvit_cli.images import transforms

PHOTOS = str(labelled_folder() / "test")

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """Weights of the narrow network, saved."""
    return save_checkpoint(tmp_path)


@pytest.fixture
def evaluate(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Evaluate:
    """Run ``lfvit evaluate`` on the narrow network, in an empty folder and this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        data = [] if "--data" in arguments else ["--data", PHOTOS]
        given = ["evaluate", SPEC, "--checkpoint", checkpoint, "--device", "cpu", "--workers", "0", *data, *arguments]
        code, out, err = run_here(given, monkeypatch, capsys)
        return code, out, err

    return run


def test_answer_goes_to_stdout_and_talk_to_stderr(evaluate: Evaluate, tmp_path: Path) -> None:
    """JSON has a row a stage that agrees with the file; then the finished file is reused, said in one line."""
    code, out, err = evaluate("--limit", "20", "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert [row["stage"] for row in rows] == ["location", "focus"]
    predictions = read_predictions(tmp_path / rows[0]["file"])
    assert (tmp_path / rows[0]["file"]).parent == tmp_path / "reports" / "predictions"
    for row, answered, macs in zip(rows, predictions.stages.values(), predictions.metadata.macs or (), strict=True):
        assert answered.top5 is not None
        assert row["top1"] == np.mean(answered.prediction == predictions.labels)
        assert row["top5"] == np.mean(answered.top5)
        assert (row["images"], row["labelled"], row["skipped"], row["trained"]) == (20, 20, 0, True)
        assert row["macs"] == macs
    assert err.splitlines() == ["Evaluating: 20/20 images", f"predictions: {rows[0]['file']}"]

    code, again, err = evaluate("--limit", "20", "--format", "json", "--batch-size", "5")
    assert (code, json.loads(again)) == (0, rows)
    assert err == f"this evaluation is already done: reusing {rows[0]['file']}\n"


def test_table_shows_both_stages(evaluate: Evaluate) -> None:
    """The table has accuracy, and MACs in GMACs."""
    code, out, _ = evaluate("--limit", "10")
    assert code == 0
    assert f"{SPEC}, 10 images" in out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["location", "focus"]
    assert "top-1" in out


def test_a_policy_is_reported_from_the_rows(evaluate: Evaluate, tmp_path: Path) -> None:
    """With a policy a last row says what it does on these images; the finished evaluation is not run again."""
    assert evaluate("--limit", "20", "-o", "p.parquet")[0] == 0
    location, focus = (table := read_predictions(tmp_path / "p.parquet")).stages.values()
    assert location.entropy is not None
    values = {"confidence": location.confidence, "entropy": location.entropy}
    for criterion, option in (("confidence", "--threshold"), ("entropy", "--policy")):
        threshold = float(np.median(values[criterion]))
        policy = {"version": 1, "model": SPEC, "stages": ["location", "focus"], "criterion": criterion}
        (tmp_path / "policy.json").write_text(json.dumps({**policy, "thresholds": [threshold]}))
        given = [option, "policy.json" if option == "--policy" else str(threshold)]
        code, out, err = evaluate("--limit", "20", "-o", "p.parquet", *given, "--format", "json")
        assert code == 0, err
        assert "already done: reusing" in err
        (*stages, row) = json.loads(out)
        exits = location.entropy < threshold if criterion == "entropy" else location.confidence >= threshold
        right = np.where(exits, location.prediction, focus.prediction) == table.labels
        first, second = table.metadata.macs or (0, 0)
        assert [each["stage"] for each in stages] == ["location", "focus"]
        assert 0 < exits.sum() < 20
        assert (row["criterion"], row["thresholds"]) == (criterion, [pytest.approx(threshold)])
        assert (row["top1"], row["answered"]) == (right.mean(), [exits.sum(), 20 - exits.sum()])
        assert row["top5"] == np.mean(np.where(exits, np.asarray(location.top5), np.asarray(focus.top5)))
        assert row["expected_macs"] == pytest.approx(first + second * (1 - exits.mean()))
        code, out, _ = evaluate("--limit", "20", "-o", "p.parquet", *given)
        assert f"{exits.sum()} / {20 - exits.sum()}" in out


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--threshold", "0.5,0.5"], 1, "2 exit thresholds were given for the stages location, focus"),
        (["--threshold", "1.5"], 1, "1.5 is not a threshold of confidence"),
        (["--criterion", "entropy"], 1, "has no published threshold of its entropy. Add --threshold"),
        (["--policy", "policy.json"], 1, "is for the stages one, two, and"),
        (["--policy", "nowhere.json"], 1, "cannot read the policy 'nowhere.json'"),
        (["--policy", "policy.json", "--threshold", "0.5"], 2, "goes without --threshold and --criterion"),
    ],
)
def test_a_policy_that_does_not_fit_is_told_before_the_work(
    evaluate: Evaluate, tmp_path: Path, given: list[str], code: int, said: str
) -> None:
    """Nothing is evaluated or written for a policy that the network cannot run under."""
    policy = {"version": 1, "model": SPEC, "stages": ["one", "two"], "criterion": "confidence", "thresholds": [0.5]}
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    before = sorted(tmp_path.rglob("*"))
    ended, out, err = evaluate("--limit", "4", *given)
    assert (ended, out) == (code, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert sorted(tmp_path.rglob("*")) == before


def test_an_imported_network_is_known_by_its_file(
    exit_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of three stages from outside has a row a stage, and the hash of its file is kept."""
    monkeypatch.chdir(tmp_path)
    spec = "exit_vit_small:embed_dim=24,num_heads=3,num_classes=10"
    options = ["--data", PHOTOS, "--limit", "6", "--workers", "0", "--device", "cpu"]
    arguments = ["evaluate", spec, "--import", str(exit_vit), *options]
    code, out, err = run_here([*arguments, "--threshold", "0.2", "--format", "json"], monkeypatch, capsys)
    assert code == 0, err
    (*stages, row) = json.loads(out)
    assert [each["stage"] for each in stages] == ["after_4", "after_8", "full"]
    assert row["thresholds"] == [0.2, 0.2]
    assert sum(row["answered"]) == 6
    metadata = read_predictions(tmp_path / row["file"]).metadata
    assert metadata.imports == {str(exit_vit): hashlib.sha256(exit_vit.read_bytes()).hexdigest()}


def test_unlabelled_images_have_no_accuracy(evaluate: Evaluate) -> None:
    """A flat folder is evaluated, and nothing is said of its accuracy."""
    code, out, _ = evaluate("--data", f"{PHOTOS}/cat", "--limit", "3", "--format", "json")
    assert code == 0
    assert [(row["labelled"], row["top1"], row["top5"]) for row in json.loads(out)] == [(0, None, None)] * 2
    assert evaluate("--data", f"{PHOTOS}/cat", "--limit", "3")[0] == 0


def test_random_weights_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a checkpoint the evaluation runs, with a warning and on the record."""
    monkeypatch.chdir(tmp_path)
    options = ["--data", PHOTOS, "--limit", "3", "--workers", "0", "--format", "json"]
    arguments = ["evaluate", f"{SPEC},num_classes=10", *options]
    code, out, err = run_here(arguments, monkeypatch, capsys)
    assert code == 0
    assert f"warning: {SPEC},num_classes=10 has random weights" in err
    assert [row["trained"] for row in json.loads(out)] == [False, False]


def test_unreadable_images_are_counted_and_named(evaluate: Evaluate, tmp_path: Path) -> None:
    """A broken file is a warning, again when the table is reused."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in sorted(Path(PHOTOS, "cat").iterdir())[:3]:
        (photos / file.name).symlink_to(file)
    (photos / "broken.jpg").write_text("no image")
    code, out, err = evaluate("--data", "photos", "--format", "json")
    assert code == 0
    assert json.loads(out)[0]["skipped"] == 1
    assert "warning: 1 of 4 images could not be read and were skipped: cannot read the image 'photos/broken.jpg'" in err
    assert "1 of 4 images could not be read and were skipped\n" in evaluate("--data", "photos")[2]


def test_transform_can_be_overridden(evaluate: Evaluate) -> None:
    """Every transform option reaches the table's record."""
    options = ["--crop-pct", "0.9", "--interpolation", "bilinear", "--mean", "0.5,0.4,0.3", "--std", "0.1,0.2,1"]
    assert evaluate("--limit", "2", *options, "-o", "p.parquet")[0] == 0
    assert read_predictions(Path("p.parquet")).metadata.transform == {
        "image_size": 224,
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.1, 0.2, 1.0],
    }


def test_interpolations_are_those_of_the_transform() -> None:
    """The option, which must not import torch, offers what the transform knows."""
    assert get_args(Interpolation) == get_args(transforms.Interpolation)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "nowhere"], 1, "there is no folder 'nowhere'. Check the path"),
        (["--checkpoint", "nowhere.pth"], 1, "there is no checkpoint nowhere.pth. Give a file"),
        (["--checkpoint", "text.pth"], 1, "text.pth is truncated, or not a checkpoint"),
        (["--split", "train"], 1, "has no split 'train'. Its folders are"),
        (["--class-map", "nowhere.txt"], 1, "cannot read the class map 'nowhere.txt'"),
        (["--class-map", "text.pth"], 1, "class folder(s) are not in the class map 'text.pth'"),
        (["--data", "torch/cifar10"], 1, "torch/cifar10 needs the folder it lies in. Add --data-root DIR"),
        (["--device", "abacus"], 1, "'abacus' is not a device"),
        (["-o", "text.pth/x"], 1, "text.pth/x"),
        (["-o", "other.parquet"], 1, "not a Parquet file, and it is in the way. Name another --output, or add --fresh"),
        (["--mean", "0.5"], 2, "'0.5' is not three numbers such as 0.5,0.5,0.5"),
        (["--std", "1,1,0"], 2, "'1,1,0' is not three positive numbers"),
        (["--mean", "nan,0,0"], 2, "'nan,0,0' is not three numbers"),
        (["--crop-pct", "1.5"], 2, "--crop-pct"),
        (["--limit", "0"], 2, "--limit"),
        (["--batch-size", "0"], 2, "--batch-size"),
        (["--dtype", "int8"], 2, "--dtype"),
    ],
)
def test_bad_input_is_one_clear_line(
    evaluate: Evaluate, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    """Each mistake is named with its remedy, and nothing is written."""
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "other.parquet").write_text("no table")
    before = sorted(tmp_path.rglob("*"))
    ended, out, err = evaluate("--data", str(labelled_folder()), "--split", "test", "--limit", "2", *arguments)
    assert (ended, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert code == 2 or err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_model_and_checkpoint_must_fit(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of another family are refused by its name."""
    arguments = ["evaluate", "deit_tiny_patch16_224", "--checkpoint", checkpoint, "--data", PHOTOS, "--limit", "2"]
    code, out, err = run_here(arguments, monkeypatch, capsys)
    assert (code, out) == (1, "")
    assert "holds CF-ViT or LF-ViT weights, and the model is DeiT. Name a CF-ViT or LF-ViT model" in err


def test_another_evaluation_is_replaced_only_when_asked(evaluate: Evaluate) -> None:
    """A named file with other numbers stays, until --fresh."""
    assert evaluate("--limit", "2", "-o", "p.parquet")[0] == 0
    code, out, err = evaluate("--limit", "3", "-o", "p.parquet")
    assert (code, out) == (1, "")
    assert err.startswith("error: p.parquet holds another evaluation: it differs in listing. Name another --output")
    assert len(read_predictions(Path("p.parquet"))) == 2
    assert evaluate("--limit", "3", "-o", "p.parquet", "--fresh")[0] == 0
    assert len(read_predictions(Path("p.parquet"))) == 3


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=lambda stop: stop.name)
def test_a_stopped_run_goes_on(evaluate: Evaluate, checkpoint: str, tmp_path: Path, stop: signal.Signals) -> None:
    """However a run is stopped, what it saved is kept, and the finished table is that of a run never stopped."""
    options = ["--data", PHOTOS, "--batch-size", "2", "--workers", "0", "-o", "p.parquet"]
    program = [sys.executable, "-m", "lfvit_cli", "evaluate", SPEC, "--checkpoint", checkpoint, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*program, *options], stderr=subprocess.PIPE, text=True, env=environment) as running:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("*.parts/*.npz")) and time.monotonic() < until:
            time.sleep(0.005)
        running.send_signal(stop)
        _, err = running.communicate()
    assert running.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL)
    if stop == signal.SIGINT:
        assert err.splitlines()[-2:] == [
            "what is done is saved: the same command goes on from there",
            "error: interrupted",
        ]
    assert not Path("p.parquet").exists()
    code, _, err = evaluate(*options)
    assert code == 0
    assert "continuing where an earlier run stopped: " in err
    assert "of 300 images are done" in err
    assert evaluate("--batch-size", "2", "-o", "whole.parquet")[0] == 0
    assert same_answers(Path("p.parquet"), Path("whole.parquet"))
    assert {path.name for path in tmp_path.iterdir()} == {"p.parquet", "whole.parquet", "weights.pth"}


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_write_the_same_table(run_python: Run, checkpoint: str, tmp_path: Path, launcher: str) -> None:
    """Two processes, with an odd number of shards and an incomplete last batch, equal one; only the main one talks."""
    command = ["-m", "lfvit_cli", "evaluate", SPEC, "--checkpoint", checkpoint, "--data", PHOTOS, "--workers", "1"]
    options = ["--device", "cpu", "--limit", "300", "--batch-size", "16", "--format", "json"]
    launch = {
        "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        "accelerate": [
            "-m",
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_processes",
            "2",
            "--num_machines",
            "1",
        ],
    }
    one = run_python(*command, *options, "-o", "one.parquet")
    environment: dict[str, Any] = {"ACCELERATE_LOG_LEVEL": "ERROR"}
    two = run_python(*launch[launcher], *command, *options, "-o", "two.parquet", **environment)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert answers(tmp_path / "one.parquet").equals(answers(tmp_path / "two.parquet"))
    assert [row["images"] for row in json.loads(two.stdout)] == [300, 300]
    assert two.stderr.count("predictions: two.parquet") == 1
    assert "172/172 images in each of 2 processes" in two.stderr
    assert not list(tmp_path.glob("*.parts"))


def test_processes_tell_a_mistake_once(run_python: Run, checkpoint: str) -> None:
    """What is wrong in all processes is said by one."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lfvit_cli"]
    done = run_python(*launch, "evaluate", SPEC, "--checkpoint", checkpoint, "--data", "nowhere")
    assert done.returncode == 1
    assert done.stderr.count("error: there is no folder 'nowhere'. Check the path to the images.") == 1
    assert "internal error" not in done.stderr
