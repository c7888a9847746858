"""Small folders of photos, narrow networks and settings that the tests of training share."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import running
from labelled import labelled_photos

from lfvit_cli.records import Progress
from lfvit_cli.training.job import TrainingJob, prepare
from lfvit_cli.training.loop import train
from lfvit_cli.training.metrics import EpochMetrics
from lfvit_cli.training.settings import Recipe, TrainSettings

NARROW = "depth=4,embed_dim=24,num_heads=3"
LF_VIT = f"lf_deit_tiny:{NARROW},location_grid=3"
DEIT = f"deit_tiny_patch16_224:{NARROW},img_size=96"
DYNAMIC_VIT = f"dynamicvit_deit_tiny:{NARROW},img_size=96,pruning_layers=(1,2)"
EVO_VIT = "evo_deit_tiny_patch16_224:depth=6,embed_dim=24,num_heads=3,img_size=96"
SPECS = (LF_VIT, DEIT, DYNAMIC_VIT, EVO_VIT)


def copy_photos(folder: Path, train: int = 16, validation: int = 4, classes: int = 2) -> Path:
    """Copy demo photos into splits of class folders, and name the folder of the splits."""
    listing = labelled_photos("validation")
    for label in range(classes):
        files = [listing.file(index) for index in range(len(listing)) if listing.labels[index] == label]
        chosen = {"train": files[: train // classes], "validation": files[train // classes :][: validation // classes]}
        for split, members in chosen.items():
            place = folder / split / listing.class_names[label]
            place.mkdir(parents=True)
            for file in members:
                shutil.copy(file, place)
    return folder


def settings(data: Path, model: str = LF_VIT, **changes: Any) -> TrainSettings:
    """Settings of a short training on one CPU; keywords change the recipe or the settings."""
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "final_form_from": 0.5}
    recipe |= {name: changes.pop(name) for name in list(changes) if name in Recipe.model_fields}
    return TrainSettings(
        **{"model": model, "data": data, "recipe": Recipe(**recipe), "precision": "float32", "device": "cpu", **changes}
    )


def quiet(_done: int, _total: int, _what: str) -> None:
    """Hear of the progress and say nothing."""


def run_training(
    asked: TrainSettings, output: Path, *, resume: bool = False, report: Progress = quiet
) -> tuple[TrainingJob, list[EpochMetrics]]:
    """Train in this process."""
    job = prepare(asked, output, quiet)
    return job, train(job, resume=resume, report=report, on_epoch=lambda _epochs: None)


def train_together(processes: int, arguments: Sequence[str], folder: Path) -> list[str]:
    """Run ``lfvit`` in several processes as a launcher does, and give what each has said on standard error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = [folder / f"said-{rank}" for rank in range(processes)]
    started = [
        running._WARM.Process(target=_as_one_of, args=(rank, processes, port, tuple(arguments), folder, file))
        for rank, file in enumerate(said)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(running.TIMEOUT)
    assert [process.exitcode for process in started] == [0] * processes, said[0].read_text()
    return [file.read_text() for file in said]


def _as_one_of(rank: int, processes: int, port: int, arguments: tuple[str, ...], folder: Path, said: Path) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    running._run_lfvit(arguments, folder, Path(os.devnull), said)


def interrupt_when(ready: Callable[[], bool], arguments: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """Run ``lfvit`` in a process, and interrupt it as soon as it is ready.

    Returns:
        Its exit code, and what it said on standard error.
    """
    said = folder / "said"
    process = running._WARM.Process(target=running._run_lfvit, args=(tuple(arguments), folder, Path(os.devnull), said))
    process.start()
    while not ready() and process.is_alive():
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(running.TIMEOUT)
    return process.exitcode, said.read_text()
