"""Tests of images/sources.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from labelled import labelled_folder, labelled_photos

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.dataset import Batch
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.sources import Source, open_source
from lfvit_cli.images.timm_datasets import Reading, Stream
from lfvit_cli.images.transforms import TransformSettings

PHOTOS = labelled_folder() / "test"


def decoded(source: Source, *places: range, workers: int = 0) -> list[Batch]:
    """Some batches of a source."""
    return list(source.batches(places, workers=workers))


def test_a_folder_is_its_listing(small: TransformSettings) -> None:
    """Names, labels, classes and hash are the sampled listing's, and the pixels those of its photos."""
    listing = sample(labelled_photos(), 7, seed=3)
    source = open_source(str(PHOTOS), small, limit=7, seed=3)
    assert (len(source), source.names, source.labels) == (7, listing.paths, listing.labels)
    assert (source.class_names, source.sha256) == (listing.class_names, listing.sha256)
    first, second = decoded(source, range(2, 5), range(6, 7))
    assert first.positions.tolist() == [2, 3, 4]
    assert second.positions.tolist() == [6]
    assert torch.equal(torch.cat([first.pixels, second.pixels]), load_photos(listing, small).pixels[[2, 3, 4, 6]])


def test_split_and_class_map_reach_the_folder(small: TransformSettings, tmp_path: Path) -> None:
    """A folder of splits needs its split, and a class map turns the labels around."""
    names = labelled_photos().class_names
    (tmp_path / "map.txt").write_text("\n".join(reversed(names)))
    source = open_source(str(labelled_folder()), small, split="test", class_map=tmp_path / "map.txt")
    assert source.labels == tuple(len(names) - 1 - label for label in labelled_photos().labels)


def test_only_a_data_set_has_another_root(small: TransformSettings, tmp_path: Path) -> None:
    """--data-root with a plain folder is a misunderstanding, and is told."""
    with pytest.raises(ImagesError, match="has no other root"):
        open_source(str(PHOTOS), small, root=tmp_path)


def cut_off() -> Iterator[object]:
    """A stream whose connection breaks before the first image."""
    yield from ()
    raise ConnectionError("the line is cut")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and 3.13 warn of every DataLoader worker.
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_reader_is_advice(small: TransformSettings, workers: int) -> None:
    """An error of another library, in a worker process too, becomes one line with a remedy."""
    source = Source(["?"] * 4, None, (), "", Stream(cut_off(), Reading(small, None)))
    with pytest.raises(ImagesError, match=r"decoding failed: .*the line is cut. .*--workers"):
        decoded(source, range(4), workers=workers)
