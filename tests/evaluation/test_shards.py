"""Tests of evaluation/shards.py."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfvit_cli.evaluation.shards import SHARD_IMAGES, Shards

SIZES = st.integers(1, 700)


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
