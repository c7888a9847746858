"""The predictions table: a row for each image with every stage's answer to it, and the circumstances of the run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, NonNegativeInt, ValidationError

from lfvit_cli.errors import PredictionsError
from lfvit_cli.files import replacing
from lfvit_cli.policies import Criterion
from lfvit_cli.records import Environment, Facts

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"lfvit"
UNKNOWN_LABEL = -1
_LF_VIT = ("location", "focus")
# A softmax in single precision can round to just above 1, and an entropy to just below 0.
_ROUNDING = 1e-4
_LAYOUT = (
    "Give a CSV or Parquet file with the columns label, and for each stage STAGE_prediction and STAGE_confidence "
    "(optionally image, STAGE_margin, STAGE_entropy, STAGE_top10_entropy, STAGE_top5)"
)


class PredictionsMetadata(Facts):
    """The circumstances of a predictions table; None where a file of another tool does not name them.

    Attributes:
        model: the model as named on the command line.
        macs: MACs that each stage adds for one image, in the order of the stages.
        classes: class names by index.
        transform: settings of the evaluation transform.
        trained: False where the weights were random.
        criterion: what exits are decided by in the method's own publication.
        imports: SHA-256 of every file that added networks, by its name as given.
    """

    model: str | None = None
    stages: tuple[str, ...]
    macs: tuple[NonNegativeInt, ...] | None = None
    classes: tuple[str, ...] | None = None
    checkpoint_hash: str | None = None
    listing_hash: str | None = None
    transform_hash: str | None = None
    transform: dict[str, JsonValue] | None = None
    dtype: str | None = None
    device: str | None = None
    trained: bool | None = None
    criterion: Criterion | None = None
    imports: dict[str, str] = Field(default_factory=dict)
    environment: Environment | None = None


@dataclass(frozen=True, eq=False)
class StageAnswers:
    """What one stage answers to each image; None for a column that a file of another tool lacks.

    Attributes:
        prediction: (N,) class index.
        confidence: (N,) largest softmax probability, 0..1.
        margin: (N,) largest minus second largest probability, 0..1.
        entropy: (N,) entropy of the softmax, nats.
        top10_entropy: (N,) entropy of the ten largest probabilities, made to sum to one; nats.
        top5: (N,) whether the label is among the five largest.
    """

    prediction: NDArray[np.int64]
    confidence: NDArray[np.floating]
    margin: NDArray[np.floating] | None = None
    entropy: NDArray[np.floating] | None = None
    top10_entropy: NDArray[np.floating] | None = None
    top5: NDArray[np.bool_] | None = None

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "StageAnswers":
        """Select rows by index or by mask."""
        columns = ((field.name, getattr(self, field.name)) for field in fields(self))
        taken: dict[str, Any] = {name: None if values is None else values[rows] for name, values in columns}
        return StageAnswers(**taken)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictions table in memory: N images, and the stages in the order in which they run.

    Attributes:
        images: (N,) paths relative to the data root; row numbers where the file has no such column.
        labels: (N,) class index, -1 where unknown.
        stages: answers by stage name.
    """

    images: NDArray[np.object_]
    labels: NDArray[np.int64]
    stages: Mapping[str, StageAnswers]
    metadata: PredictionsMetadata

    def __len__(self) -> int:
        return len(self.labels)

    def with_macs(self, macs: tuple[int, ...]) -> "Predictions":
        """Set the MACs that each stage adds for one image.

        Raises:
            PredictionsError: not one positive number a stage.
        """
        if len(macs) != len(self.stages) or min(macs) <= 0:
            stages = ", ".join(self.stages)
            raise PredictionsError(
                f"{len(macs)} MACs given for the stages {stages}", "Give a positive number for each."
            )
        return replace(self, metadata=self.metadata.model_copy(update={"macs": macs}))

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Predictions":
        """Select rows by index or by mask."""
        stages = {stage: answers.take(rows) for stage, answers in self.stages.items()}
        return Predictions(self.images[rows], self.labels[rows], stages, self.metadata)

    def require_labels(self) -> None:
        """Raise PredictionsError if any row is unlabelled."""
        unlabelled = int(np.count_nonzero(self.labels == UNKNOWN_LABEL))
        if unlabelled:
            remedy = "Accuracy needs labels: evaluate class folders, or leave these rows out."
            raise PredictionsError(f"{unlabelled} of {len(self)} rows have no label (-1)", remedy)


def read_predictions(path: Path, *, labelled: bool = True) -> Predictions:
    """Read a predictions table from Parquet or CSV, written by `lfvit evaluate` or by any other tool.

    Args:
        path: the file.
        labelled: refuse a table with unlabelled rows.

    Raises:
        PredictionsError: the file is missing or unreadable, columns are missing, or a value is out of its range.
    """
    try:
        table = _read_table(path)
        predictions = _from_table(table, _read_metadata(table))
        _check_values(predictions)
        if labelled:
            predictions.require_labels()
    except PredictionsError as error:
        raise PredictionsError(f"predictions {str(path)!r}: {error.problem}", error.remedy) from error
    return predictions


def write_predictions(
    path: Path, predictions: Predictions, *, logits: Mapping[str, NDArray[np.float16]] | None = None
) -> None:
    """Write a predictions table as Parquet, whole or not at all.

    Args:
        path: the file; missing folders are made.
        predictions: the table.
        logits: (N, K) by stage, kept as a further column `{stage}_logits` where given.

    Raises:
        PredictionsError: a value is out of its range.
        OSError: the folder cannot be written.
    """
    import pyarrow.parquet as pq

    _check_values(predictions)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        pq.write_table(_to_table(predictions, logits or {}), temporary)


def _read_table(path: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            # pq.read_table would import pyarrow.dataset, which takes longer than the reading.
            with pq.ParquetFile(path) as parquet:
                return parquet.read([c for c in parquet.schema_arrow.names if not c.endswith("_logits")])
        if path.suffix.lower() in {".parquet", ".pq"}:
            raise PredictionsError("this is not a Parquet file", f"{_LAYOUT}.")
        table = pyarrow.csv.read_csv(path)
        # Names are decoded only when asked for, and those of a picture cannot be.
        return table.rename_columns(table.column_names)
    except FileNotFoundError as error:
        raise PredictionsError("no such file", "Make one with `lfvit evaluate`.") from error
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise PredictionsError(f"cannot be read: {str(error).splitlines()[0]}", f"{_LAYOUT}.") from error


def _read_metadata(table: "pa.Table") -> PredictionsMetadata:
    document = (table.schema.metadata or {}).get(METADATA_KEY)
    if document is None:
        suffix = "_prediction"
        stages = [name.removesuffix(suffix) for name in table.column_names if name.endswith(suffix)]
        # Another tool may have sorted its columns. Stages with other names run in the order of their columns.
        return PredictionsMetadata(stages=_LF_VIT if set(stages) == set(_LF_VIT) else tuple(stages))
    try:
        return PredictionsMetadata.model_validate_json(document)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        problem = f"its metadata cannot be read (at {where!r})"
        raise PredictionsError(problem, "Evaluate again with this version.") from error


def _from_table(table: "pa.Table", metadata: PredictionsMetadata) -> Predictions:
    stages = metadata.stages
    needed = ["label", *(f"{s}_{column}" for s in stages or ("STAGE",) for column in ("prediction", "confidence"))]
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names[:12]) or "none"
        raise PredictionsError(f"lacks the columns {', '.join(missing)} (found: {found})", f"{_LAYOUT}.")
    if not len(table):
        raise PredictionsError("has no rows", "Evaluate at least one image.")
    if metadata.macs is not None and len(metadata.macs) != len(stages):
        raise PredictionsError("does not have one number of MACs per stage", "Evaluate again with this version.")
    images = table["image"].to_pylist() if "image" in table.column_names else range(len(table))
    return Predictions(
        images=np.array([str(image) for image in images], dtype=object),
        labels=_column(table, "label", "int64"),
        stages={stage: _stage_answers(table, stage) for stage in stages},
        metadata=metadata,
    )


def _stage_answers(table: "pa.Table", stage: str) -> StageAnswers:
    def optional(column: str, kind: str) -> NDArray[Any] | None:
        name = f"{stage}_{column}"
        return _column(table, name, kind) if name in table.column_names else None

    return StageAnswers(
        prediction=_column(table, f"{stage}_prediction", "int64"),
        confidence=_column(table, f"{stage}_confidence", "real"),
        margin=optional("margin", "real"),
        entropy=optional("entropy", "real"),
        top10_entropy=optional("top10_entropy", "real"),
        top5=optional("top5", "bool"),
    )


def _column(table: "pa.Table", name: str, kind: str) -> NDArray[Any]:
    """Take a column as int64, bool or, for "real", in the floating type that it is stored in."""
    import pyarrow as pa

    column = table[name]
    if column.null_count:
        raise PredictionsError(f"column {name} has {column.null_count} empty cells", "Every row needs a value.")
    wanted = kind if kind != "real" else str(column.type) if pa.types.is_floating(column.type) else "double"
    try:
        whole = column.cast(wanted).combine_chunks()
        # Through DLPack, which has no booleans: to_numpy would import pandas, which takes longer than the reading.
        values: NDArray[Any] = np.from_dlpack(whole.cast("uint8") if kind == "bool" else whole)
    except pa.ArrowException as error:
        words = {"int64": "whole numbers", "bool": "true or false", "real": "numbers"}
        raise PredictionsError(f"column {name} is {column.type}, not {words[kind]}", f"{_LAYOUT}.") from error
    return values.astype(np.bool_) if kind == "bool" else values


def _check_values(predictions: Predictions) -> None:
    classes = predictions.metadata.classes
    highest = len(classes) - 1 if classes is not None else int(np.iinfo(np.int64).max)
    _check_range("label", predictions.labels, UNKNOWN_LABEL, highest)
    for stage, answers in predictions.stages.items():
        _check_range(f"{stage}_prediction", answers.prediction, 0, highest)
        _check_range(f"{stage}_confidence", answers.confidence, 0.0, 1.0)
        if answers.entropy is not None:
            _check_range(f"{stage}_entropy", answers.entropy, 0.0, math.log(highest + 1))
        if answers.top10_entropy is not None:
            _check_range(f"{stage}_top10_entropy", answers.top10_entropy, 0.0, math.log(min(10, highest + 1)))
        if answers.margin is not None:
            _check_range(f"{stage}_margin", answers.margin, 0.0, 1.0)


def _check_range(name: str, values: NDArray[Any], low: float, high: float) -> None:
    # Written so that a NaN, which compares as false, counts as outside.
    inside = (values >= low - _ROUNDING) & (values <= high + _ROUNDING)
    if not inside.all():
        row = int(np.argmin(inside))
        where = f"column {name} has {values[row]} in row {row} ({np.count_nonzero(~inside)} such rows)"
        classes = name == "label" or name.endswith("_prediction")
        expected = f"the classes 0 to {high}" if classes else f"{low:g} to {high:g}"
        raise PredictionsError(f"{where}, outside {expected}", "Evaluate again, or correct these rows.")


def _to_table(predictions: Predictions, logits: Mapping[str, NDArray[np.float16]]) -> "pa.Table":
    import pyarrow as pa

    columns: dict[str, Any] = {"image": pa.array(predictions.images, pa.string()), "label": predictions.labels}
    for stage, answers in predictions.stages.items():
        for field in fields(answers):
            values = getattr(answers, field.name)
            if values is not None:
                columns[f"{stage}_{field.name}"] = values
    for stage, rows in logits.items():
        columns[f"{stage}_logits"] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    metadata = {METADATA_KEY: predictions.metadata.model_dump_json().encode()}
    return pa.table(columns).replace_schema_metadata(metadata)
