"""Tests of evaluation/files.py."""

from pathlib import Path

import pytest
import torch
from evaluating import evaluated, network, save_checkpoint

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.files import identity_hash, predictions_file, read_finished, weights_sha256
from lfvit_cli.evaluation.table import PredictionsMetadata
from lfvit_cli.images.demo import demo_folder

FACTS = PredictionsMetadata(
    model="lf_deit_small:location_grid=9,region_size=8",
    stages=("location", "focus"),
    checkpoint_hash="c",
    listing_hash="l",
    transform_hash="t",
    dtype="float32",
)


def test_a_folder_gets_a_file_named_by_model_and_hash(tmp_path: Path) -> None:
    """The name tells the model, and differs for whatever else changes the numbers."""
    file = predictions_file(tmp_path, FACTS, logits=False)
    assert file.parent == tmp_path
    assert file.name.startswith("lf_deit_small-location_grid-9-region_size-8-")
    assert file.suffix == ".parquet"
    changes = {"checkpoint_hash": "C", "listing_hash": "L", "transform_hash": "T", "dtype": "float16", "model": "lf"}
    others = [FACTS.model_copy(update={name: value}) for name, value in changes.items()]
    names = {predictions_file(tmp_path, other, logits=False).name for other in others}
    assert len({file.name, predictions_file(tmp_path, FACTS, logits=True).name, *names}) == 7
    # Where it ran does not change what is asked.
    assert predictions_file(tmp_path, FACTS.model_copy(update={"device": "cuda"}), logits=False) == file


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    """A .parquet name is a file, unless a folder has it; any other name is a folder."""
    assert predictions_file(tmp_path / "a.parquet", FACTS, logits=False) == tmp_path / "a.parquet"
    assert predictions_file(tmp_path / "a.v2", FACTS, logits=False).parent == tmp_path / "a.v2"
    (tmp_path / "b.parquet").mkdir()
    assert predictions_file(tmp_path / "b.parquet", FACTS, logits=False).parent == tmp_path / "b.parquet"


def test_long_specs_still_make_file_names(tmp_path: Path) -> None:
    """A spec with many keywords is cut, and its hash tells it from its like."""
    specs = ["deit_tiny_patch16_224:" + "drop_rate=0.1," * 40 + last for last in ("depth=1", "depth=2")]
    files = [predictions_file(tmp_path, FACTS.model_copy(update={"model": spec}), logits=False) for spec in specs]
    assert files[0] != files[1]
    assert all(len(file.name) < 130 for file in files)


def test_further_circumstances_count() -> None:
    """What else is given changes the hash."""
    assert identity_hash(FACTS, batch_size=1) != identity_hash(FACTS, batch_size=2)


def test_random_weights_are_known_by_their_values(tmp_path: Path) -> None:
    """A checkpoint is hashed as a file; weights without one as what they are."""
    one, same, other = network(), network(), network()
    with torch.no_grad():
        other.head.bias[0] += 1  # type: ignore[index, operator, union-attr]
    assert weights_sha256(None, one) == weights_sha256(None, same) != weights_sha256(None, other)
    checkpoint = save_checkpoint(tmp_path)
    assert weights_sha256(checkpoint, one) == weights_sha256(checkpoint, other) != weights_sha256(None, one)


def test_a_file_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    """Another evaluation's table, and what is no table, are named as such, with the way to replace them."""
    checkpoint, photos = save_checkpoint(tmp_path), str(demo_folder() / "test")
    evaluation = evaluated(tmp_path / "p.parquet", checkpoint=checkpoint, data=photos, limit=3)
    facts = evaluation.predictions.metadata
    assert read_finished(tmp_path / "none.parquet", facts, logits=False) is None
    assert read_finished(evaluation.path, facts, logits=False) is not None
    for update, logits, difference in (
        ({"dtype": "float16", "listing_hash": "l"}, False, "differs in listing, dtype"),
        ({}, True, "differs in logits"),
    ):
        with pytest.raises(MeasureError, match=f"holds another evaluation: it {difference}.*--fresh"):
            read_finished(evaluation.path, facts.model_copy(update=update), logits=logits)
    evaluation.path.write_text("label,full_prediction,full_confidence\n0,0,1\n")
    with pytest.raises(MeasureError, match=r"p.parquet.*not a Parquet file, and it is in the way.*--fresh"):
        read_finished(evaluation.path, facts, logits=False)
