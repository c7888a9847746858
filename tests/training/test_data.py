"""Tests of training/data.py."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_training import copy_photos, quiet

from lfvit_cli.errors import TrainingError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.transforms import TransformSettings
from lfvit_cli.training import data
from lfvit_cli.training.data import CachedPhotos, EpochOrder, StreamedPhotos, list_splits, mixed_seed, share_of

CPU = torch.device("cpu")
SMALL = TransformSettings(image_size=32)


def test_cached_and_streamed_photos_are_the_same(tmp_path: Path) -> None:
    """Photos kept in memory and photos decoded anew give the same pixels and labels, in the order asked for."""
    listing = list_folder(copy_photos(tmp_path), split="train")
    rows = [torch.tensor([5, 0, 11]), torch.tensor([2])]
    cached = list(CachedPhotos(load_photos(listing, SMALL), CPU).batches(rows))
    streamed = list(StreamedPhotos(listing, SMALL, CPU, 0).batches(rows))
    for one, other in zip(cached, streamed, strict=True):
        assert one.pixels.equal(other.pixels)
        assert one.labels.equal(other.labels)
        assert one.positions.equal(other.positions)
    assert cached[0].labels.tolist() == [listing.labels[index] for index in (5, 0, 11)]


def test_unreadable_photos_are_left_out(tmp_path: Path) -> None:
    """A damaged file is named beforehand where photos are cached, and missing from its batch where they stream."""
    folder = copy_photos(tmp_path)
    listing = list_folder(folder, split="train")
    listing.file(3).write_bytes(b"no image")
    batch = next(StreamedPhotos(listing, SMALL, CPU, 0).batches([torch.tensor([3, 4, 5])]))
    assert batch.positions.tolist() == [1, 2]
    cached = CachedPhotos(load_photos(listing, SMALL), CPU)
    assert len(cached) == len(listing) - 1
    assert len(cached.unreadable) == 1


def test_photos_that_memory_cannot_hold_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the free memory decides."""
    listing = list_folder(copy_photos(tmp_path), split="train")
    needed = len(listing) * 3 * 32**2

    def kind(free: int) -> type:
        monkeypatch.setattr(data, "free_memory", lambda _device: free)
        return type(data.open_photos(listing, SMALL, CPU, 0, lambda done, total: quiet(done, total, "")))

    assert kind(2 * needed) is CachedPhotos
    assert kind(2 * needed - 2) is StreamedPhotos


def test_splits_must_agree(tmp_path: Path) -> None:
    """Splits of different class folders, and photos without classes, are refused."""
    folder = copy_photos(tmp_path)
    assert len(list_splits(folder).train) == 16
    assert len(list_splits(folder).validation) == 4
    with pytest.raises(TrainingError, match="have no classes"):
        list_splits(folder / "train", "apple", "apple")
    (folder / "train" / "unheard-of").mkdir()
    with pytest.raises(TrainingError, match="different class folders"):
        list_splits(folder)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_an_epoch_shows_each_photo_once(photos: int, batch: int, accumulate: int, processes: int) -> None:
    """All processes and passes together see each photo at most once, and all but an incomplete update's."""
    an_update = batch * accumulate * processes
    if photos < an_update:
        with pytest.raises(TrainingError, match="one update takes"):
            EpochOrder(photos, an_update, 1, 0, 0)
        return
    order = EpochOrder(photos, an_update, 1, 0, 0)
    parts = [
        part
        for update in range(order.updates)
        for process in range(processes)
        for part in order.positions(update, accumulate, process, processes)
    ]
    assert {len(part) for part in parts} == {batch}
    seen = torch.cat([order.photos(part) for part in parts]).tolist()
    assert len(set(seen)) == len(seen) == photos // an_update * an_update


def test_repeats_show_fewer_photos_oftener() -> None:
    """Three repeats of a third of the photos, with different draws."""
    order = EpochOrder(30, 6, 3, 0, 0)
    places = torch.arange(30)
    shown, times = order.photos(places).unique(return_counts=True)
    assert len(shown) == 10
    assert times.tolist() == [3] * 10
    assert len(order.draws(places).seeds.unique()) == 30


def test_order_depends_on_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same order and draws; another of either gives others."""
    places = torch.arange(40)

    def order(seed: int, epoch: int) -> list[int]:
        return EpochOrder(40, 4, 1, seed, epoch).photos(places).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(2, 1) != order(1, 3)
    again, other = (EpochOrder(40, 4, 1, 1, 2).draws(places) for _ in range(2))
    assert again.uniform.equal(other.uniform)
    assert mixed_seed(0, 1) != mixed_seed(1, 0)


def test_mixing_partners_stay_in_one_process() -> None:
    """The i-th photo of a batch and the i-th last, which mixup pairs, are such a pair in their process, too."""
    batch = torch.arange(12)
    assert share_of(batch, 0, 1).equal(batch)
    for process in range(3):
        part = share_of(batch, process, 3)
        assert (part + part.flip(0)).tolist() == [11] * 4
