"""Tests of evaluation/files.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluating import evaluated, network, save_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from labelled import labelled_folder

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.files import (
    SHARD_IMAGES,
    Shards,
    identity_hash,
    predictions_file,
    read_finished,
    weights_sha256,
)
from lfvit_cli.evaluation.table import PredictionsMetadata

FACTS = PredictionsMetadata(
    model="lf_deit_small:location_grid=9,region_size=8",
    stages=("location", "focus"),
    checkpoint_hash="c",
    listing_hash="l",
    transform_hash="t",
    dtype="float32",
    imports={"method.py": "i"},
)
SIZES = st.integers(1, 700)


def test_a_folder_gets_a_file_named_by_model_and_hash(tmp_path: Path) -> None:
    """The name tells the model, and differs for whatever else changes the numbers."""
    file = predictions_file(tmp_path, FACTS, logits=False)
    assert file.parent == tmp_path
    assert file.name.startswith("lf_deit_small-location_grid-9-region_size-8-")
    assert file.suffix == ".parquet"
    changes: dict[str, object] = {
        "checkpoint_hash": "C",
        "listing_hash": "L",
        "transform_hash": "T",
        "dtype": "float16",
        "model": "lf",
    }
    changes["imports"] = {"method.py": "I"}
    others = [FACTS.model_copy(update={name: value}) for name, value in changes.items()]
    names = {predictions_file(tmp_path, other, logits=False).name for other in others}
    assert len({file.name, predictions_file(tmp_path, FACTS, logits=True).name, *names}) == 8
    # Where it ran, and where an imported file lies, does not change what is asked.
    for update in ({"device": "cuda"}, {"imports": {"elsewhere/method.py": "i"}}):
        assert predictions_file(tmp_path, FACTS.model_copy(update=update), logits=False) == file


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
    checkpoint, photos = save_checkpoint(tmp_path), str(labelled_folder() / "test")
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


@given(images=st.integers(0, 3000), batch_size=SIZES, processes=st.integers(1, 9))
def test_batches_are_the_same_however_many_processes_share_them(images: int, batch_size: int, processes: int) -> None:
    """Every image is in one batch, and the batches are those of a run from first to last without shards."""
    shards = Shards(Path(), images, batch_size)
    everything = list(range(len(shards)))
    dealt = [shards.batches(everything[index::processes]) for index in range(processes)]
    plain = [range(first, min(first + batch_size, images)) for first in range(0, images, batch_size)]
    assert sorted((batch for share in dealt for batch in share), key=lambda batch: batch.start) == plain


@given(images=st.integers(1, 3000), batch_size=SIZES)
def test_a_shard_knows_its_images(images: int, batch_size: int) -> None:
    """Positions and shards agree, and a shard is whole batches of about the size promised."""
    shards = Shards(Path(), images, batch_size)
    for shard in range(len(shards)):
        assert {shards.of(position) for position in shards.positions(shard)} == {shard}
    assert sum(len(shards.positions(shard)) for shard in range(len(shards))) == images
    assert shards.size % batch_size == 0
    assert shards.size == batch_size or SHARD_IMAGES / 2 < shards.size <= SHARD_IMAGES


def test_saved_shards_come_back_joined_in_order(tmp_path: Path) -> None:
    """Shards saved in any order, some without rows, are read as one table."""
    shards = Shards(tmp_path / "parts", 3 * SHARD_IMAGES, SHARD_IMAGES)
    shards.create()
    assert shards.missing() == [0, 1, 2]
    shards.save(2, {"label": np.array([7, 8]), "reason": np.array(["torn"])})
    shards.save(0, {"label": np.array([1, 2, 3]), "reason": np.array(["of another length"])})
    assert shards.missing() == [1]
    shards.save(1, {})
    columns = shards.load()
    assert columns["label"].tolist() == [1, 2, 3, 7, 8]
    assert columns["reason"].tolist() == ["of another length", "torn"]
    shards.remove()
    assert list(tmp_path.iterdir()) == []
    shards.remove()


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """What is not plain numbers or text is refused, and no half file stays."""
    shards = Shards(tmp_path, 1, 1)
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        shards.save(0, {"label": np.array([object()])})
    assert list(tmp_path.iterdir()) == []
    assert shards.missing() == [0]
