"""Tests of evaluation/table.py."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from made_predictions import MACS, random_predictions, tables

from lfvit_cli.errors import PredictionsError
from lfvit_cli.evaluation.table import (
    METADATA_KEY,
    Predictions,
    PredictionsMetadata,
    read_predictions,
    write_predictions,
)
from lfvit_cli.records import capture_environment

ROWS = {
    "label": [0, 1, 2],
    "location_prediction": [0, 1, 1],
    "location_confidence": [0.9, 0.5, 0.2],
    "focus_prediction": [0, 1, 2],
    "focus_confidence": [0.95, 0.75, 0.5],
}


def same(one: Predictions, other: Predictions) -> bool:
    """Whether two tables hold the same values of the same types."""
    columns = ("prediction", "confidence", "entropy", "margin", "top5")
    pairs = [(one.images, other.images), (one.labels, other.labels)]
    for stage in one.stages:
        pairs += [(getattr(one.stages[stage], name), getattr(other.stages[stage], name)) for name in columns]
    return one.metadata == other.metadata and all(a.dtype == b.dtype and (a == b).all() for a, b in pairs)


def write_csv(path: Path, **changes: list[object]) -> Path:
    """Write the rows, with some columns changed, as CSV."""
    pd.DataFrame({**ROWS, **changes}).to_csv(path, index=False)
    return path


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(table=tables())
def test_what_is_written_is_read(tmp_path: Path, table: Predictions) -> None:
    """A table comes back with every value, every type and its metadata."""
    path = tmp_path / "made" / "predictions.parquet"
    write_predictions(path, table)
    assert same(read_predictions(path), table)
    assert [file.name for file in path.parent.iterdir()] == ["predictions.parquet"]


def test_circumstances_are_kept(tmp_path: Path) -> None:
    """Hashes, settings and the environment of the run come back as they were."""
    table = random_predictions(5)
    metadata = table.metadata.model_copy(
        update={
            "checkpoint_hash": "abc",
            "transform": {"crop_pct": 0.875},
            "trained": False,
            "environment": capture_environment(),
        }
    )
    write_predictions(tmp_path / "p.parquet", Predictions(table.images, table.labels, table.stages, metadata))
    assert read_predictions(tmp_path / "p.parquet").metadata == metadata
    stored = json.loads(pq.read_schema(tmp_path / "p.parquet").metadata[METADATA_KEY])
    assert stored["macs"] == list(MACS[:2])


def test_logits_are_written_beside_the_table(tmp_path: Path) -> None:
    """Logits are a further column in half precision, which the reader leaves on disk."""
    table = random_predictions(7, classes=3)
    logits = np.arange(21, dtype=np.float16).reshape(7, 3)
    write_predictions(tmp_path / "p.parquet", table, logits={"focus": logits})
    stored = pq.read_table(tmp_path / "p.parquet")["focus_logits"]
    assert stored.type == pa.list_(pa.float16(), 3)
    assert np.array_equal(np.array(stored.to_pylist(), dtype=np.float16), logits)
    assert same(read_predictions(tmp_path / "p.parquet"), table)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A table that cannot be written leaves what was there before, and nothing half-written."""
    path = tmp_path / "p.parquet"
    write_predictions(path, random_predictions(5))
    before = path.read_bytes()
    with pytest.raises(pa.ArrowException):
        write_predictions(path, random_predictions(6), logits={"focus": np.zeros((4, 3), np.float16)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_bare_file_is_welcome(tmp_path: Path, suffix: str) -> None:
    """The columns alone are enough: what else is unknown is None, and images are called by their row."""
    path = write_csv(tmp_path / "foreign.csv")
    if suffix == "parquet":
        path = tmp_path / "foreign.parquet"
        pd.DataFrame(ROWS).to_parquet(path)
    table = read_predictions(path)
    assert table.metadata == PredictionsMetadata(stages=("location", "focus"))
    assert list(table.images) == ["0", "1", "2"]
    assert table.stages["location"].entropy is None
    assert table.stages["focus"].confidence.tolist() == ROWS["focus_confidence"]


def test_stages_of_sorted_columns_run_in_order(tmp_path: Path) -> None:
    """A tool that sorts its columns does not turn focus into the first stage."""
    path = tmp_path / "sorted.csv"
    pd.DataFrame(ROWS).sort_index(axis=1).to_csv(path, index=False)
    assert tuple(read_predictions(path).stages) == ("location", "focus")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"location_confidence": [0.9, 1.5, 0.2]},
            "location_confidence has 1.5 in row 1 (1 such rows), outside 0 to 1",
        ),
        ({"focus_confidence": [0.9, 0.5, float("nan")]}, "focus_confidence has 1 empty cells"),
        ({"focus_entropy": [0.1, -2.0, 0.1]}, "focus_entropy has -2.0 in row 1"),
        ({"focus_margin": [0.1, 0.2, 1.1]}, "focus_margin has 1.1 in row 2"),
        ({"label": [0, -1, -1]}, "2 of 3 rows have no label (-1)"),
        ({"label": [0, -2, 1]}, "label has -2 in row 1"),
        ({"label": ["dress", "hat", "hat"]}, "column label is string, not whole numbers"),
        ({"focus_top5": ["maybe", "yes", "no"]}, "column focus_top5 is string, not true or false"),
        ({"focus_prediction": [0.5, 1, 2]}, "column focus_prediction is double, not whole numbers"),
    ],
)
def test_values_out_of_range_are_named(tmp_path: Path, changes: dict[str, list[object]], said: str) -> None:
    """A value that cannot be is refused, with its column, its row and the file."""
    path = write_csv(tmp_path / "bad.csv", **changes)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert said in caught.value.problem
    assert str(path) in caught.value.problem
    assert caught.value.remedy


def test_nan_in_a_parquet_file_is_refused(tmp_path: Path) -> None:
    """A NaN, which Parquet does not take for an empty cell, is outside 0 to 1."""
    table = pa.table({**ROWS, "focus_confidence": pa.array([0.5, float("nan"), 0.5])})
    pq.write_table(table, tmp_path / "nan.parquet")
    with pytest.raises(PredictionsError, match=r"focus_confidence has nan in row 1"):
        read_predictions(tmp_path / "nan.parquet")


@pytest.mark.parametrize("column", ["label", "focus_prediction"])
def test_labels_beyond_the_classes_are_refused(tmp_path: Path, column: str) -> None:
    """A label or prediction that the classes do not have is named with the classes there are."""
    metadata = PredictionsMetadata(stages=("location", "focus"), classes=("dress", "hat"))
    table = pa.table({**ROWS, "label": [0, 1, 1], "focus_prediction": [0, 0, 0], column: [0, 2, 1]})
    document = {METADATA_KEY: metadata.model_dump_json().encode()}
    pq.write_table(table.replace_schema_metadata(document), tmp_path / "p.parquet")
    with pytest.raises(PredictionsError, match=rf"column {column} has 2 in row 1 .* outside the classes 0 to 1"):
        read_predictions(tmp_path / "p.parquet")


def test_unlabelled_tables_are_read_when_asked(tmp_path: Path) -> None:
    """Without labels there is no accuracy, but there are answers to look at."""
    path = write_csv(tmp_path / "unlabelled.csv", label=[-1, -1, -1])
    assert len(read_predictions(path, labelled=False)) == 3


def test_missing_columns_are_named_with_what_was_found(tmp_path: Path) -> None:
    """A file of something else says which columns it lacks, and which it has."""
    path = tmp_path / "other.csv"
    path.write_text("label,focus_prediction,colour\n1,1,red\n")
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert "lacks the columns focus_confidence (found: label, focus_prediction, colour)" in caught.value.problem


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "cannot be read"),
        ("header.csv", (",".join(ROWS) + "\n").encode(), "has no rows"),
        ("text.parquet", b"not a table", "this is not a Parquet file"),
        ("cut.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "cannot be read"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """Empty, damaged and foreign files are one clear error each."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PredictionsError, match=said):
        read_predictions(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    """A missing file says how to make one."""
    with pytest.raises(PredictionsError, match=r"no such file\. Make one with `lfvit evaluate`"):
        read_predictions(tmp_path / "absent.parquet")


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    """A folder is refused like any unreadable file."""
    with pytest.raises(PredictionsError, match="cannot be read"):
        read_predictions(tmp_path)


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    """Metadata of another make is an error that says where, not a traceback."""
    table = pa.table(ROWS).replace_schema_metadata({METADATA_KEY: b'{"stages": 3}'})
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(PredictionsError, match=r"metadata cannot be read \(at 'stages'\)"):
        read_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize("macs", [(1,), (1, 2, 3), (1, 0), (-1, 2)])
def test_macs_are_one_positive_number_a_stage(macs: tuple[int, ...]) -> None:
    """MACs given from outside must fit the stages."""
    with pytest.raises(PredictionsError, match="MACs given for the stages location, focus"):
        random_predictions(3, macs=False).with_macs(macs)


def test_macs_can_be_given() -> None:
    """A table that does not tell its MACs takes them."""
    assert random_predictions(3, macs=False).with_macs((10, 20)).metadata.macs == (10, 20)
