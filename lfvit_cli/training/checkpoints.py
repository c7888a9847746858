"""What a training leaves: a checkpoint to go on from while it is under way, and at last the file of its weights."""

import json
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from lfvit_cli.errors import TrainingError, first_line
from lfvit_cli.files import replacing
from lfvit_cli.networks.build import parse_spec
from lfvit_cli.training.job import TrainingJob
from lfvit_cli.training.metrics import EpochMetrics

_NAME = re.compile(r"update-(\d{8})\.pth")
PACKAGES = ("lfvit", "torch", "timm", "accelerate")
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training goes on from; its file can be named as a --checkpoint, too.

    Attributes:
        model: weights of the network.
        epoch: under way, from 0.
        update: the next one of that epoch.
        settings: of the training, as JSON data.
        data_sha256: of the photos trained on.
        validation_sha256: of the photos validated on.
        optimizer: its state.
        scheduler: its state.
        ema: weights of the moving average; None without one.
        scaler: state of the gradient scaler; None without one.
        random: state of PyTorch's random streams in each process, by device.
        last_lr: learning rate of the last update.
        sums: of the losses in this epoch so far.
        steps: that the sums are over.
        metrics: of the epochs that are done, as plain data.
    """

    model: dict[str, Tensor]
    epoch: int
    update: int
    settings: dict[str, Any]
    data_sha256: str
    validation_sha256: str
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    ema: dict[str, Tensor] | None
    scaler: dict[str, Any] | None
    random: list[dict[str, Tensor]]
    last_lr: float
    sums: dict[str, float]
    steps: int
    metrics: list[list[Any]]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, updates: int) -> Path:
    """Write a checkpoint whole or not at all, and only then remove those before it.

    Args:
        folder: of all checkpoints of the training.
        checkpoint: what to write.
        updates: done in all; names the checkpoint.

    Raises:
        TrainingError: it cannot be written; the one before is still there.
    """
    path = folder / f"update-{updates:08d}.pth"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(vars(checkpoint), temporary)
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be written: {first_line(error)}", "Free some space, and add --resume."
        ) from error
    for older in _found(folder):
        if older != path:
            older.unlink(missing_ok=True)
    return path


def latest(folder: Path) -> Path | None:
    """The newest checkpoint; None where there is none."""
    return max(_found(folder), default=None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # bytes that are no checkpoint can fail in any way
        raise TrainingError(
            f"the checkpoint {path} cannot be read: {first_line(error)}", "Remove it, and train anew."
        ) from error


def _found(folder: Path) -> list[Path]:
    return [path for path in folder.glob("update-*") if _NAME.fullmatch(path.name)]


@dataclass(frozen=True)
class Header:
    """What the file of trained weights says about itself; read by people and by other commands.

    Attributes:
        model: ``NAME[:key=value,...]``.
        imports: SHA-256 of the code that added it, by its name as given.
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
    imports: dict[str, str]
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


def write_final(job: TrainingJob, last: EpochMetrics) -> Path:
    """Write the judged network to ``NAME.safetensors`` in the job's folder, whole or not at all.

    Args:
        job: that has come to its end.
        last: its last epoch.

    Raises:
        TrainingError: the file cannot be written.
    """
    settings, classes = job.settings, job.splits.train.class_names
    name, keywords = parse_spec(settings.model)
    header = Header(
        model=settings.model,
        imports=settings.imports,
        keywords={**keywords, "num_classes": len(classes)},
        class_names=classes,
        transform=job.transform.model_dump(mode="json"),
        data_sha256=job.splits.train.sha256,
        validation_sha256=job.splits.validation.sha256,
        metrics=last.row(),
        recipe=settings.recipe.model_dump(mode="json"),
        initialisation=str(job.initialisation),
        teacher=settings.teacher and f"{settings.teacher} with {settings.teacher_checkpoint}",
        seed=settings.seed,
        precision=settings.precision,
        versions={package: metadata.version(package) for package in PACKAGES},
    )
    path, dtype = job.output / f"{name}.safetensors", DTYPES[settings.save_dtype]
    # Safetensors wants each tensor in its own piece of memory.
    weights = {key: value.detach().cpu().contiguous() for key, value in job.judged.state_dict().items()}
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save(cast, metadata=header.text()))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {first_line(error)}", "Free some space.") from error
    return path
