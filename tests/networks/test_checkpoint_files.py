"""Tests of networks/checkpoint_files.py."""

import argparse
import hashlib
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from lfvit_cli.errors import CheckpointError
from lfvit_cli.networks.checkpoint_files import file_sha256, read_checkpoint, read_records

STATE = {"head.weight": torch.arange(6.0).view(2, 3), "head.bias": torch.zeros(2)}
ARGUMENTS = argparse.Namespace(
    lr=5e-4, model="lf_deit_small", resume="", betas=[0.9, 0.999], nested=argparse.Namespace()
)
TRAINING = {"optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]}, "epoch": 299, "args": ARGUMENTS}
RECORDS = {
    "flops": [1.1, 3.8],
    "anytime_classification": [70.1, 80.8],
    "budgeted_batch_classification": [[1.2, 1.8], [75.0, 79.8]],
}


class Ours:
    """A class that no other machine has."""


class Bomb:
    """An object that makes a file when it is unpickled by someone who trusts it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where to write a checkpoint."""
    return tmp_path / "weights.pth"


def same(state: dict[str, Tensor]) -> bool:
    """Whether a state is STATE, key by key."""
    return state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)


WRAPPINGS: dict[str, Any] = {
    "bare": STATE,
    "model": {"model": STATE},
    "state_dict": {"state_dict": STATE, "arch": "deit"},
    "model_ema": {"model_ema": STATE, "epoch": 3},
    "module prefix": {f"module.{key}": value for key, value in STATE.items()},
    "model, module prefix": {"model": {f"module.{key}": value for key, value in STATE.items()}},
    "wrapped twice": {"model_ema": {"state_dict": STATE, "decay": 0.99996}},
    "model beside its average": {"model": STATE, "model_ema": {key: value + 1 for key, value in STATE.items()}},
    "training": {"model": STATE, **TRAINING, **RECORDS},
    "parameters": {key: nn.Parameter(value) for key, value in STATE.items()},
}


@pytest.mark.parametrize("content", WRAPPINGS.values(), ids=WRAPPINGS.keys())
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_wrapping_is_taken_off(file: Path, content: Any, zipped: bool) -> None:
    """However a state dict is wrapped, in either of torch's formats, the published keys come out."""
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(str(file)).state)


def test_safetensors(tmp_path: Path) -> None:
    """A safetensors file is read with its header, and has no records."""
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{key}": value for key, value in STATE.items()}, path, metadata={"format": "pt", "epoch": "3"})
    checkpoint = read_checkpoint(str(path))
    assert same(checkpoint.state)
    assert checkpoint.metadata == {"format": "pt", "epoch": "3"}
    assert (checkpoint.source, checkpoint.path, checkpoint.records) == (str(path), path, {})


def test_records_are_readable(file: Path) -> None:
    """The authors' stored results come back as they were stored, and only those that are there."""
    torch.save({"model": STATE, **TRAINING, **RECORDS}, file)
    assert read_records(str(file)) == RECORDS
    torch.save({"model": STATE, "flops": [1.1, 3.8]}, file)
    assert read_records(str(file)) == {"flops": [1.1, 3.8]}


def test_home_is_expanded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may start at the home folder."""
    torch.save(STATE, file)
    monkeypatch.setenv("HOME", str(file.parent))
    assert same(read_checkpoint(f"~/{file.name}").state)


@pytest.mark.parametrize("content", [{"model": STATE, **TRAINING}, {"model": STATE, "x": Ours()}], ids=["good", "bad"])
def test_a_file_is_never_written_to(file: Path, content: Any) -> None:
    """Read or refused, a checkpoint keeps its bytes, its time and its folder."""
    torch.save(content, file)
    os.utime(file, ns=(1, 1))
    before = file.read_bytes()
    try:
        read_checkpoint(str(file))
    except CheckpointError:
        assert "x" in content
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, 1)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_is_not_executed(file: Path, zipped: bool) -> None:
    """A checkpoint that would run code is refused, the code is named, and it has not run."""
    target = file.parent / "made"
    torch.save({"model": STATE, "args": Bomb(target)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"holds more than data, and is not executed: \w+\.mkdir\. Save its state"
    ):
        read_checkpoint(str(file))
    assert not target.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_torch_did_not_write_is_not_executed(file: Path, protocol: int) -> None:
    """A plain pickle of any protocol is refused in one line, and has not run."""
    target = file.parent / "made"
    file.write_bytes(pickle.dumps({"model": Bomb(target)}, protocol))
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(str(file))
    assert not target.exists()
    assert "\n" not in str(refusal.value)


def test_the_bomb_is_live(tmp_path: Path) -> None:
    """The object that the other tests see refused does act on whoever trusts it."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "made")))  # noqa: S301  # this is what must not happen elsewhere
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "culprit"),
    [({"model": STATE, "x": Ours()}, "Ours"), (nn.Linear(2, 2), "torch.nn.modules.linear.Linear")],
    ids=["own class", "whole module"],
)
def test_other_objects_are_refused_by_name(file: Path, content: Any, culprit: str) -> None:
    """A class is not imported for a checkpoint's sake; the error names it and how to save weights alone."""
    torch.save(content, file)
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(str(file))
    assert refusal.value.problem.endswith(culprit)
    assert "torch.save(model.state_dict(), FILE)" in refusal.value.remedy


def truncated(path: Path) -> None:
    """Half of a checkpoint."""
    torch.save({"model": STATE}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_legacy(path: Path) -> None:
    """Most of a checkpoint in torch's older format."""
    torch.save({"model": STATE}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-8])


def zipped_text(path: Path) -> None:
    """A zip file of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


def tarred_text(path: Path) -> None:
    """A tar file of something else."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated": truncated,
    "truncated legacy": truncated_legacy,
    "text": lambda path: path.write_text("hello, this is a text\n"),
    "page": lambda path: path.write_text("<!DOCTYPE html><html></html>"),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "zip": zipped_text,
    "tar": tarred_text,
}


@pytest.mark.parametrize("write", BROKEN.values(), ids=BROKEN.keys())
def test_broken_files(file: Path, write: Callable[[Path], object]) -> None:
    """What is no whole checkpoint is said to be none, in one line, without torch's advice to trust it."""
    write(file)
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(str(file))
    assert refusal.value.problem == f"{file} is truncated, or not a checkpoint"
    assert "Download it anew" in refusal.value.remedy


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(file: Path, content: bytes) -> None:
    """No bytes, pickle-like or not, get anything but a refusal out of the reader."""
    for start in (b"", b"\x80\x02", b"PK\x03\x04"):
        file.write_bytes(start + content)
        with pytest.raises(CheckpointError):
            read_checkpoint(str(file))


@pytest.mark.parametrize("write", BROKEN.values(), ids=BROKEN.keys())
def test_broken_safetensors(tmp_path: Path, write: Callable[[Path], object]) -> None:
    """The same goes for a file that calls itself safetensors."""
    path = tmp_path / "weights.safetensors"
    write(path)
    with pytest.raises(CheckpointError, match=r"is not a readable safetensors file.*Download it anew") as refusal:
        read_checkpoint(str(path))
    assert "\n" not in str(refusal.value)


def test_missing_file(file: Path) -> None:
    """A file that is not there is named, with the kinds of source there are."""
    with pytest.raises(
        CheckpointError, match=r"there is no checkpoint .*weights\.pth.*hf-hub:OWNER/NAME or `pretrained`"
    ):
        read_checkpoint(str(file))


def test_folder(tmp_path: Path) -> None:
    """A folder is not searched; the remedy is to name the file."""
    with pytest.raises(CheckpointError, match=r"is a folder\. Name the \.pth or \.safetensors file in it"):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(2), "holds a Tensor, not parameters"),
        ([STATE], "holds a list, not parameters"),
        ({}, "holds no parameters"),
        ({"epoch": 3, "best": 0.8}, r"holds no parameters \(it has epoch, best\)"),
        ({"model": {}, "epoch": 3}, "holds no parameters"),
    ],
    ids=["tensor", "list", "empty", "numbers", "empty model"],
)
def test_files_without_parameters(file: Path, content: Any, words: str) -> None:
    """A readable file that holds no parameters is refused by what it holds instead."""
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(str(file))


def test_sha256(file: Path) -> None:
    """The identifying hash is the usual one of the file's bytes."""
    file.write_bytes(b"weights")
    assert file_sha256(file) == hashlib.sha256(b"weights").hexdigest()
