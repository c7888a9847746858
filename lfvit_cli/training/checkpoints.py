"""Checkpoints of a training under way: a folder each, there whole or not at all; and the final file."""

import json
import os
import re
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lfvit_cli.errors import TrainingError, first_line
from lfvit_cli.files import replacing

WEIGHTS, STATE = "weights.safetensors", "state.pt"
_NAME = re.compile(r"update-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training goes on from.

    Attributes:
        weights: of the network.
        epoch: under way, from 0.
        update: the next one of that epoch.
        settings: of the training, as JSON data.
        data_sha256: of the photos trained on.
        optimizer: its state.
        scheduler: its state.
        ema: weights of the moving average; None without one.
        scaler: state of the gradient scaler; None without one.
        random: state of PyTorch's random streams in each process, by device.
        last_lr: learning rate of the last update.
        sums: of the losses in this epoch so far.
        steps: that the sums are over.
        metrics: of the epochs that are done, as plain data.
        validation_sha256: of the photos validated on; empty in checkpoints of earlier versions.
    """

    weights: dict[str, Tensor]
    epoch: int
    update: int
    settings: dict[str, Any]
    data_sha256: str
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    ema: dict[str, Tensor] | None
    scaler: dict[str, Any] | None
    random: list[dict[str, Tensor]]
    last_lr: float
    sums: dict[str, float]
    steps: int
    metrics: list[list[Any]]
    validation_sha256: str = ""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, updates: int) -> Path:
    """Write a checkpoint, and only then remove those before it.

    Args:
        folder: of all checkpoints of the training.
        checkpoint: what to write.
        updates: done in all; names the checkpoint.

    Raises:
        TrainingError: it cannot be written; the one before is still there.
    """
    final = folder / f"update-{updates:08d}"
    # The name of an unfinished one is no checkpoint's.
    temporary = folder / f".{final.name}.{secrets.token_hex(4)}"
    state = {name: value for name, value in vars(checkpoint).items() if name != "weights"}
    try:
        temporary.mkdir(parents=True)
        _write(temporary / WEIGHTS, save(contiguous(checkpoint.weights)))
        torch.save(state, temporary / STATE)
        _flush(temporary / STATE)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"the checkpoint {final} cannot be written: {first_line(error)}",
            "Free some space, and go on with --resume.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for older in _found(folder):
        if older != final:
            shutil.rmtree(older, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint; None where there is none."""
    return max(_found(folder), default=None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        return Checkpoint(weights=load_file(path / WEIGHTS), **state)
    except Exception as error:  # bytes that are no checkpoint can fail in any way
        raise TrainingError(
            f"the checkpoint {path} cannot be read: {first_line(error)}", "Remove it, and train anew."
        ) from error


@dataclass(frozen=True)
class Header:
    """What a final file says about itself; read by people and by other commands.

    Attributes:
        model: ``NAME[:key=value,...]``.
        keywords: those of the model, with the number of its classes.
        class_names: by index.
        transform: how images are prepared.
        data_sha256: of the photos trained on.
        validation_sha256: of the photos validated on.
        metrics: of the last epoch.
        recipe: all hyperparameters.
        initialisation: where the starting weights came from.
        teacher: what was learned from, and its weights; None for nothing.
        seed: of everything drawn at random.
        precision: of the forward passes.
        versions: of the packages.
    """

    model: str
    keywords: dict[str, Any]
    class_names: tuple[str, ...]
    transform: dict[str, Any]
    data_sha256: str
    validation_sha256: str
    metrics: dict[str, float]
    recipe: dict[str, Any]
    initialisation: str
    teacher: str | None
    seed: int
    precision: str
    versions: dict[str, str]

    def text(self) -> dict[str, str]:
        """Each entry as text: JSON, but for what is text already."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in asdict(self).items()}


def save_final(path: Path, weights: dict[str, Tensor], header: Header, dtype: torch.dtype) -> Path:
    """Write the trained weights whole or not at all.

    Raises:
        TrainingError: the file cannot be written.
    """
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save(contiguous(cast), metadata=header.text()))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {first_line(error)}", "Free some space.") from error
    return path


def contiguous(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in its own piece of memory, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous() for name, value in weights.items()}


def _found(folder: Path) -> list[Path]:
    return [path for path in folder.glob("update-*") if _NAME.fullmatch(path.name)]


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    _flush(file)


def _flush(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
