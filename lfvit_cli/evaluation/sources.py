"""What a sweep is given: predictions, models to evaluate first, and curves that authors report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lfvit_cli.evaluation.authors_curve import AuthorsCurve, holds_curve, read_checkpoint_curve, read_curve_file
from lfvit_cli.evaluation.table import Predictions

_CHECKPOINTS = {".pth", ".pt", ".bin", ".tar", ".safetensors"}
_TEXTS = {".csv", ".txt"}
_TABLES = {".parquet", ".pq", *_TEXTS}


def kind_of(source: str) -> Literal["predictions", "model", "curve"]:
    """Recognise a source: a CSV file by its columns, others by their names. What is not like a file is a model."""
    path = Path(source)
    if _is_checkpoint(source) or (path.suffix.lower() in _TEXTS and holds_curve(path)):
        return "curve"
    return "predictions" if path.exists() or path.suffix.lower() in _TABLES or "/" in source else "model"


def read_curve(source: str) -> AuthorsCurve:
    """Read a curve that authors report, from a CSV file or from a checkpoint that carries it.

    Raises:
        MeasureError: it cannot be read, or holds none.
    """
    return read_checkpoint_curve(source) if _is_checkpoint(source) else read_curve_file(source)


def names_of(tables: Sequence[Predictions], sources: Sequence[str]) -> list[str]:
    """Name every table by its model, and by its file where that is unknown or not enough."""
    models = [table.metadata.model for table in tables]
    stems = [Path(source).stem for source in sources]
    names = [
        stem if model is None else model if models.count(model) == 1 else f"{model} ({stem})"
        for model, stem in zip(models, stems, strict=True)
    ]
    return [name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True)]


def _is_checkpoint(source: str) -> bool:
    return source.startswith("hf-hub:") or Path(source).suffix.lower() in _CHECKPOINTS
