"""Tests of images/dataset.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from labelled import labelled_photos
from torch.utils.data import DataLoader

from lfvit_cli.images.dataset import Batch, ImageDataset, collate_readable
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.transforms import TransformSettings


@pytest.fixture
def broken(make_folder: Callable[..., Path]) -> Listing:
    """Five images, of which the second, the third and the last cannot be read."""
    root = make_folder("a/0.png", "b/3.png")
    for name in ("a/1.jpg", "b/2.jpg", "b/4.jpg"):
        (root / name).write_text("no image")
    return list_folder(root)


def batches(listing: Listing, settings: TransformSettings, size: int, workers: int = 0) -> list[Batch]:
    """All batches of a listing."""
    loader: DataLoader[Batch] = DataLoader(
        ImageDataset(listing, settings),  # type: ignore[arg-type]
        batch_size=size,
        collate_fn=collate_readable,
        num_workers=workers,
    )
    return list(loader)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and 3.13 warn of every DataLoader worker.
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_loaded_photos(small: TransformSettings, workers: int) -> None:
    """In this process and in workers, batches are the rows that `load_photos` makes."""
    listing = sample(labelled_photos(), 11)
    photos = load_photos(listing, small)
    found = batches(listing, small, 4, workers)
    assert [len(batch.labels) for batch in found] == [4, 4, 3]
    assert torch.equal(torch.cat([batch.pixels for batch in found]), photos.pixels)
    assert torch.equal(torch.cat([batch.labels for batch in found]), photos.labels)
    assert torch.cat([batch.positions for batch in found]).tolist() == list(range(11))
    assert not any(batch.unreadable for batch in found)


def test_unreadable_images_are_left_out_and_reported(broken: Listing, small: TransformSettings) -> None:
    """A broken file does not end the run: its position and the reason come with the batch."""
    first, second, third = batches(broken, small, 2)
    assert (first.positions.tolist(), first.unreadable) == ([0], [1])
    assert (second.positions.tolist(), second.labels.tolist(), second.unreadable) == ([3], [1], [2])
    assert "1.jpg" in first.reasons[0]
    assert (third.pixels.shape, third.pixels.dtype, third.unreadable) == ((0, 3, 32, 32), torch.uint8, [4])
    assert third.labels.dtype == third.positions.dtype == torch.int64


def test_unreadable_item_is_flagged(broken: Listing, small: TransformSettings) -> None:
    """One item can be asked for, and says whether it could be read."""
    dataset = ImageDataset(broken, small)
    assert len(dataset) == 5
    assert dataset[0].reason is None
    item = dataset[1]
    assert (item.label, item.position) == (0, 1)
    assert item.reason is not None
    assert not item.pixels.any()
