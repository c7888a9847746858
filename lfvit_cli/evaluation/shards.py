"""Work saved as it is done: shards of whole batches, each a file that appears complete or not at all."""

import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.files import replacing

SHARD_IMAGES = 128

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Shards:
    """Where the shards of one evaluation lie, and how its images are cut into them.

    A batch never spans two shards, so it holds the same images however many processes share the work.

    Attributes:
        folder: of the shards' files.
        images: in all shards.
        batch_size: images a batch; a shard holds about ``SHARD_IMAGES`` images, and at least one batch.
    """

    folder: Path
    images: int
    batch_size: int

    @property
    def size(self) -> int:
        """Images a shard; the last may hold fewer."""
        return max(1, SHARD_IMAGES // self.batch_size) * self.batch_size

    def __len__(self) -> int:
        return math.ceil(self.images / self.size)

    def missing(self) -> list[int]:
        """The shards not yet saved, in order."""
        return [shard for shard in range(len(self)) if not self._file(shard).exists()]

    def positions(self, shard: int) -> range:
        """The images of a shard."""
        return range(shard * self.size, min((shard + 1) * self.size, self.images))

    def batches(self, shards: Iterable[int]) -> list[range]:
        """The batches of some shards, in order."""
        spans = map(self.positions, shards)
        return [
            span[first : first + self.batch_size] for span in spans for first in range(0, len(span), self.batch_size)
        ]

    def of(self, position: int) -> int:
        """The shard that an image belongs to."""
        return position // self.size

    def save(self, shard: int, columns: Columns) -> None:
        """Write a shard, whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        with replacing(self._file(shard)) as temporary, temporary.open("xb") as file:
            np.savez(file, allow_pickle=False, **columns)

    def load(self) -> dict[str, NDArray[Any]]:
        """Read all shards and join each column in their order; a shard may lack columns that it has no rows for."""
        parts: dict[str, list[NDArray[Any]]] = {}
        for shard in range(len(self)):
            with np.load(self._file(shard), allow_pickle=False) as columns:
                for name, values in columns.items():
                    parts.setdefault(name, []).append(values)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def create(self) -> None:
        """Make the folder, if there is none.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder and all in it, if there is one."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _file(self, shard: int) -> Path:
        return self.folder / f"{shard:06d}.npz"
