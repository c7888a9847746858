"""What is trained, on what, from where, and how the machine is used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lfvit_cli.training.recipes import Recipe

Precision = Literal["float32", "bfloat16", "float16"]

# They change how fast a training is, or how its result is stored; not what it learns.
_HARMLESS = {"device", "threads", "workers", "save_dtype", "data"}


class TrainSettings(BaseModel):
    """A whole training.

    Attributes:
        model: ``NAME[:key=value,...]``.
        imports: SHA-256 of every file that added networks, by its name as given.
        data: the folder of the splits.
        train_split: its sub-folder to train on.
        validation_split: its sub-folder to validate on; None for ``val`` or ``validation``.
        recipe: all hyperparameters.
        init: starting weights, see :func:`lfvit_cli.training.initialise.initialise`.
        teacher: a network to learn from, as ``NAME[:key=value,...]``.
        teacher_checkpoint: its weights.
        precision: of the forward passes; the weights are float32.
        device: ``auto`` for the best there is, ``cpu``, ``cuda`` or ``mps``; launchers choose among several GPUs.
        seed: of everything drawn at random.
        threads: CPU threads; None for PyTorch's choice.
        workers: processes that decode photos that do not fit into memory.
        save_dtype: number type of the final file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    imports: dict[str, str] = Field(default_factory=dict)
    data: Path
    train_split: str = "train"
    validation_split: str | None = None
    recipe: Recipe
    init: str | None = None
    teacher: str | None = None
    teacher_checkpoint: str | None = None
    precision: Precision = "bfloat16"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = 0
    threads: int | None = Field(None, ge=1)
    workers: int = Field(4, ge=0)
    save_dtype: Literal["float32", "float16"] = "float32"

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Names of the settings in which another training, as JSON data, would learn something else."""
        return sorted(_differing(self.model_dump(mode="json"), other))


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    for name in ours.keys() | theirs.keys():
        one, two = ours.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _differing(one, two)
        elif one != two and name not in _HARMLESS:
            yield name
