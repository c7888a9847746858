"""What an epoch of training has come to."""

from collections.abc import Sequence
from typing import Any, NamedTuple


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
