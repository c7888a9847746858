"""What an epoch of training has come to: the means of its losses, and how often each stage is right."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from lfvit_cli.images.transforms import normalise
from lfvit_cli.training.job import TrainingJob
from lfvit_cli.training.objectives import stage_logits


class EpochMetrics(NamedTuple):
    """One epoch.

    Attributes:
        epoch: from 1.
        updates: done in all.
        lr: learning rate of the last update.
        losses: means over the epoch: ``loss``, and the parts it consists of.
        top1: on the validation photos, by stage; 0 to 1.
        seconds: wall-clock time of the epoch, since the last resumption, with its validation.
    """

    epoch: int
    updates: int
    lr: float
    losses: dict[str, float]
    top1: dict[str, float]
    seconds: float

    def row(self) -> dict[str, float]:
        """The columns of a table."""
        parts = {f"{name}_loss": value for name, value in self.losses.items() if name != "loss"}
        top1 = {f"{stage}_top1": value for stage, value in self.top1.items()}
        fixed = {"epoch": self.epoch, "updates": self.updates, "lr": self.lr, "loss": self.losses["loss"]}
        return {**fixed, **parts, **top1, "seconds": self.seconds}


class RunningMean:
    """Means of several named values over the steps of an epoch."""

    def __init__(self, sums: dict[str, float] | None = None, steps: int = 0) -> None:
        self.sums, self.steps = dict(sums or {}), steps

    def add(self, values: dict[str, float]) -> None:
        """Count one step."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The mean of each value."""
        return {name: total / self.steps for name, total in self.sums.items()}


def from_data(rows: Sequence[Sequence[Any]]) -> list[EpochMetrics]:
    """Epochs read back from plain data."""
    return [EpochMetrics(*row) for row in rows]


@torch.no_grad()
def validate(job: TrainingJob, stop: Callable[[], bool]) -> dict[str, float] | None:
    """Top-1 of every stage of the judged network, 0 to 1; the processes share the photos.

    Args:
        job: under way.
        stop: whether this process was asked to stop; asked after each batch.

    Returns:
        None where any process was asked to stop, and all have broken off.
    """
    network, accelerator = job.judged, job.accelerator
    was_training = network.training
    network.eval()
    size, processes = 2 * job.recipe.batch_size, accelerator.num_processes
    own = torch.arange(accelerator.process_index, max(accelerator.process_index, len(job.validation)), processes)
    rows = own.split(size) if len(own) else ()
    batches = job.validation.batches(rows)
    totals = torch.zeros(len(job.stages) + 2, device=accelerator.device)
    # As many as the process with the most has, as all of them add up after each.
    for number in range(-(-len(job.validation) // (size * processes))):
        counts = torch.zeros_like(totals)
        if number < len(rows):
            batch = next(batches)
            with accelerator.autocast():
                answers = stage_logits(network, normalise(batch.pixels, job.transform))
            right = [(logits.argmax(dim=1) == batch.labels).sum() for logits in answers]
            counts[:-1] = torch.stack([*right, torch.tensor(len(batch.labels), device=accelerator.device)])
        counts[-1] = stop()
        totals += accelerator.reduce(counts, "sum")
        if totals[-1]:
            break
    network.train(was_training)
    *right_in_all, photos, stopped = totals.tolist()
    if stopped:
        return None
    return {stage: right / max(1, photos) for stage, right in zip(job.stages, right_in_all, strict=True)}
