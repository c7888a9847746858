"""What identifies an evaluation, where its predictions go, and whether they are there already."""

import hashlib
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from lfvit_cli.errors import MeasureError, PredictionsError
from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata, read_predictions
from lfvit_cli.networks.checkpoint_files import HUB, file_sha256, read_checkpoint
from lfvit_cli.networks.checkpoints import PRETRAINED

SHORT_HASH = 8
_SUFFIXES = (".parquet", ".pq")
# Two tables that agree in these hold the same numbers.
_IDENTITY = ("model", "checkpoint_hash", "listing_hash", "transform_hash", "dtype", "imports")


def weights_sha256(checkpoint: str | None, network: nn.Module) -> str:
    """Hash of the checkpoint's file; of the weights themselves where they come from no file."""
    if checkpoint is None or checkpoint == PRETRAINED:
        digest = hashlib.sha256()
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()
    path = read_checkpoint(checkpoint).path if checkpoint.startswith(HUB) else Path(checkpoint).expanduser()
    return file_sha256(path)


def identity_hash(facts: PredictionsMetadata, **further: Any) -> str:
    """Hash of what determines the numbers of a table, and of further circumstances."""
    identity = [getattr(facts, name) for name in _IDENTITY]
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
        name.replace("_hash", "") for name in _IDENTITY if getattr(found.metadata, name) != getattr(facts, name)
    ]
    if _version(found.metadata) != metadata.version("lfvit"):
        differing.append("version of lfvit")
    if logits and not _has_logits(path):
        differing.append("logits")
    if differing:
        raise MeasureError(f"{path} holds another evaluation: it differs in {', '.join(differing)}", _REPLACE)
    return found


_REPLACE = "Name another --output, or add --fresh to replace it."


def _version(facts: PredictionsMetadata) -> str | None:
    return facts.environment.packages.get("lfvit") if facts.environment else None


def _has_logits(path: Path) -> bool:
    import pyarrow.parquet as pq

    return any(name.endswith("_logits") for name in pq.read_schema(path).names)
