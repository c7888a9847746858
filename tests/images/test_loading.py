"""Tests of images/loading.py."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from labelled import labelled_photos
from PIL import Image

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.decode import open_image
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform


def test_rows_are_the_photos_of_the_listing(small: TransformSettings) -> None:
    """Every row of pixels belongs to the path and the label beside it, though threads finish in any order."""
    listing = sample(labelled_photos(), 40)
    photos = load_photos(listing, small, workers=8)
    transform = build_pixel_transform(small)
    expected = torch.stack([transform(open_image(listing.file(index))) for index in range(len(listing))])
    assert torch.equal(photos.pixels, expected)
    assert photos.labels.tolist() == list(listing.labels)
    assert (photos.paths, photos.listing, photos.unreadable) == (listing.paths, listing, ())
    assert (photos.pixels.dtype, photos.labels.dtype) == (torch.uint8, torch.int64)


def test_limit_is_a_seeded_sample(small: TransformSettings) -> None:
    """A limit loads no more than it says, spread over the classes."""
    photos = load_photos(labelled_photos(), small, limit=20, seed=3)
    assert photos.listing == sample(labelled_photos(), 20, seed=3)
    assert photos.labels.bincount().tolist() == [2] * 10


def test_rate_is_of_the_wall_clock(small: TransformSettings) -> None:
    """The seconds are those that passed, and the rate is photos over seconds."""
    start = time.perf_counter()
    photos = load_photos(labelled_photos(), small, limit=30, workers=1)
    passed = time.perf_counter() - start
    assert 0 < photos.decode_seconds <= passed
    assert photos.images_per_second == pytest.approx(30 / photos.decode_seconds)


def test_unreadable_photos_are_skipped_and_named(make_folder: Callable[..., Path], small: TransformSettings) -> None:
    """A broken file costs its own row only, and is reported with the reason."""
    root = make_folder("a/1.png", "a/3.png", "b/1.png")
    (root / "a/2.jpg").write_text("no image")
    (root / "b/0.jpg").symlink_to(root / "nowhere.jpg")
    photos = load_photos(list_folder(root), small)
    assert photos.paths == ("a/1.png", "a/3.png", "b/1.png")
    assert photos.labels.tolist() == [0, 0, 1]
    assert photos.pixels[:, 0, 0, 0].tolist() == [0, 20, 40]
    assert [photo.path for photo in photos.unreadable] == ["a/2.jpg", "b/0.jpg"]
    assert "not a JPEG" in photos.unreadable[0].reason
    assert "no such file" in photos.unreadable[1].reason
    assert len(photos) == 3
    assert len(photos.listing) == 5


def test_nothing_readable_is_an_error(tmp_path: Path, small: TransformSettings) -> None:
    """A folder in which no image can be read does not pass for an empty result."""
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(ImagesError, match=r"none of 2 image\(s\) below .* can be read: .*1\.jpg"):
        load_photos(list_folder(tmp_path), small)


def test_empty_listing_is_an_error(small: TransformSettings) -> None:
    """A listing without images cannot be loaded."""
    with pytest.raises(ImagesError, match=r"none of 0 image\(s\)"):
        load_photos(labelled_photos().select([]), small)


def test_progress_counts_to_the_end(small: TransformSettings) -> None:
    """The callback hears of every file, in order, with the total."""
    heard: list[tuple[int, int]] = []
    load_photos(labelled_photos(), small, limit=7, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(done, 7) for done in range(1, 8)]


def test_interruption_stops_the_threads(small: TransformSettings) -> None:
    """An interruption in the callback ends the loading without decoding what is left."""
    start = time.perf_counter()
    listing = labelled_photos()
    listing = listing.select([*range(len(listing))] * 100)

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_photos(listing, small, workers=2, progress=interrupt)
    assert time.perf_counter() - start < 10


def test_warnings_do_not_leak_from_threads(tmp_path: Path, photo: Image.Image, small: TransformSettings) -> None:
    """Photos that Pillow warns about load in many threads, and the warning filters are as before."""
    truncated_exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0d\0\0\0\x88\x13\0\0\0\0\0\0"
    for number in range(24):
        photo.save(tmp_path / f"{number}.jpg", exif=truncated_exif)
    before = list(warnings.filters)
    photos = load_photos(list_folder(tmp_path), small, workers=12)
    assert len(photos) == 24
    assert list(warnings.filters) == before
