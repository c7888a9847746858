"""Where an evaluation's predictions go and what identifies them, and its work saved as it is done."""

import hashlib
import math
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lfvit_cli.errors import MeasureError, PredictionsError
from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata, read_predictions
from lfvit_cli.files import replacing
from lfvit_cli.networks.checkpoint_files import HUB, file_sha256, read_checkpoint
from lfvit_cli.networks.checkpoints import PRETRAINED

SHORT_HASH = 8
SHARD_IMAGES = 128

Columns = Mapping[str, NDArray[Any]]

_SUFFIXES = (".parquet", ".pq")
# Two tables that agree in these hold the same numbers.
_IDENTITY = ("model", "checkpoint_hash", "listing_hash", "transform_hash", "dtype", "imports")
_REPLACE = "Name another --output, or add --fresh to replace it."


def weights_sha256(checkpoint: str | None, network: nn.Module) -> str:
    """SHA-256 of the checkpoint's file; of the weights themselves where they come from no file."""
    if checkpoint is None or checkpoint == PRETRAINED:
        digest = hashlib.sha256()
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()
    path = read_checkpoint(checkpoint).path if checkpoint.startswith(HUB) else Path(checkpoint).expanduser()
    return file_sha256(path)


def identity_hash(facts: PredictionsMetadata, **further: Any) -> str:
    """SHA-256 of what determines the numbers of a table, and of further circumstances."""
    identity = [_identity(facts, name) for name in _IDENTITY]
    return hashlib.sha256(repr((metadata.version("lfvit"), identity, sorted(further.items()))).encode()).hexdigest()


def predictions_file(output: Path, facts: PredictionsMetadata, *, logits: bool) -> Path:
    """The file named by ``output``, or one in that folder named by the model and a short hash of what it holds."""
    if output.suffix.lower() in _SUFFIXES and not output.is_dir():
        return output
    name = re.sub(r"[^\w.]+", "-", facts.model or "").strip("-")[:100]
    return output / f"{name}-{identity_hash(facts, logits=logits)[:SHORT_HASH]}.parquet"


def read_finished(path: Path, facts: PredictionsMetadata, *, logits: bool) -> Predictions | None:
    """The table that an earlier run of the same evaluation wrote; None if there is no file.

    Raises:
        MeasureError: the file holds something else.
    """
    if not path.exists():
        return None
    try:
        found = read_predictions(path, labelled=False)
    except PredictionsError as error:
        raise MeasureError(f"{error.problem}, and it is in the way", _REPLACE) from error
    differing = [
        name.replace("_hash", "") for name in _IDENTITY if _identity(found.metadata, name) != _identity(facts, name)
    ]
    if _version(found.metadata) != metadata.version("lfvit"):
        differing.append("version of lfvit")
    if logits and not _has_logits(path):
        differing.append("logits")
    if differing:
        raise MeasureError(f"{path} holds another evaluation: it differs in {', '.join(differing)}", _REPLACE)
    return found


def _identity(facts: PredictionsMetadata, name: str) -> Any:
    """A fact as it identifies an evaluation: imported files by what is in them, wherever they lie."""
    value = getattr(facts, name)
    return sorted(value.values()) if isinstance(value, dict) else value


def _version(facts: PredictionsMetadata) -> str | None:
    return facts.environment.packages.get("lfvit") if facts.environment else None


def _has_logits(path: Path) -> bool:
    import pyarrow.parquet as pq

    return any(name.endswith("_logits") for name in pq.read_schema(path).names)


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
