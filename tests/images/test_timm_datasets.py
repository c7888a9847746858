"""Tests of images/timm_datasets.py."""

import io
import shutil
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled import labelled_folder, labelled_photos
from PIL import Image
from timm.data import ImageDataset as TimmImageDataset
from timm.data import IterableImageDataset
from timm.data.readers.reader import Reader

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.dataset import collate_readable
from lfvit_cli.images.sources import Source, open_source
from lfvit_cli.images.timm_datasets import PACKAGES, IndexedPictures, Reading, Stream, StreamedBatches, is_timm_dataset
from lfvit_cli.images.transforms import TransformSettings

PHOTOS = labelled_folder() / "test"
FOLDER = "torch/image_folder"


def pixels(source: Source, *places: range) -> torch.Tensor:
    """The pixels of some batches."""
    return torch.cat([batch.pixels for batch in source.batches(places, workers=0)])


def labels(source: Source, count: int) -> list[int]:
    """The labels of the first images."""
    return [label for batch in source.batches([range(count)], workers=0) for label in batch.labels.tolist()]


def test_names_that_mean_a_data_set() -> None:
    """Only timm's own prefixes do; a folder of such a name is written with ./."""
    assert all(is_timm_dataset(f"{kind}/x") for kind in PACKAGES)
    assert not any(map(is_timm_dataset, ("photos", "./torch/x", "/torch/x", "torch", "photos/torch/x")))


def test_torchvision_folder_reads_like_ours(small: TransformSettings) -> None:
    """The same photos give the same pixels, labels, names and classes whichever way they are read."""
    ours, theirs = open_source(str(PHOTOS), small), open_source(FOLDER, small, root=labelled_folder(), split="test")
    assert list(theirs.names) == [f"test/{name}" for name in ours.names]
    assert (theirs.class_names, theirs.labels) == (ours.class_names, None)
    assert torch.equal(pixels(theirs, range(3), range(200, 203)), pixels(ours, range(3), range(200, 203)))
    assert ours.labels is not None
    assert labels(theirs, 30) == list(ours.labels[:30])


def test_a_limit_takes_a_seeded_choice(small: TransformSettings) -> None:
    """The choice keeps the order, differs by seed, and is part of the hash."""
    whole = open_source(FOLDER, small, root=PHOTOS)
    one, same, other = (open_source(FOLDER, small, root=PHOTOS, limit=9, seed=seed) for seed in (0, 0, 1))
    assert list(one.names) == list(same.names) == sorted(one.names)
    assert set(one.names) < set(whole.names)
    assert set(one.names) != set(other.names)
    assert len({whole.sha256, one.sha256, other.sha256}) == 3
    assert one.sha256 == same.sha256


def test_the_hash_follows_the_files(small: TransformSettings, tmp_path: Path) -> None:
    """A changed file is another data set."""
    shutil.copytree(PHOTOS / "cat", tmp_path / "cat")
    before = open_source(FOLDER, small, root=tmp_path).sha256
    assert open_source(FOLDER, small, root=tmp_path).sha256 == before
    with next((tmp_path / "cat").iterdir()).open("ab") as file:
        file.write(b"\0")
    assert open_source(FOLDER, small, root=tmp_path).sha256 != before


def test_a_class_map_renames_labels(small: TransformSettings, tmp_path: Path) -> None:
    """Labels become those of the map, and a class that it lacks is told."""
    names = labelled_photos().class_names
    file = tmp_path / "map.txt"
    file.write_text("\n".join(reversed(names)))
    source = open_source(FOLDER, small, root=PHOTOS, class_map=file)
    assert source.class_names == tuple(reversed(names))
    assert labels(source, 5) == [9 - label for label in labelled_photos().labels[:5]]
    file.write_text("\n".join(names[1:]))
    with pytest.raises(ImagesError, match=r"1 classes of torch/image_folder are not in the class map: apple"):
        open_source(FOLDER, small, root=PHOTOS, class_map=file)


def test_an_unreadable_image_is_flagged(small: TransformSettings, tmp_path: Path) -> None:
    """A broken file is skipped with its reason; no other image takes its place."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.jpg").write_text("no image")
    shutil.copy(labelled_photos().file(0), tmp_path / "a" / "1.jpg")
    (batch,) = open_source(FOLDER, small, root=tmp_path).batches([range(2)], workers=0)
    assert (batch.positions.tolist(), batch.unreadable) == ([1], [0])
    assert "0.jpg" in batch.reasons[0]
    pictures = IndexedPictures(TimmImageDataset(str(tmp_path)), [0, 1], Reading(small, None))
    assert pictures[0].reason == "cannot read the image: not a JPEG, PNG, WebP, BMP, TIFF, GIF or PPM image"
    assert torch.equal(pictures[1].pixels, batch.pixels[0])


@pytest.mark.parametrize(
    ("data", "root", "problem"),
    [
        ("torch/cifar10", None, "needs the folder it lies in. Add --data-root DIR"),
        ("torch/cifar10", ".", "torch/cifar10 cannot be opened: Dataset not found"),
        ("torch/nonsense", ".", "cannot be opened: Unknown torchvision dataset nonsense"),
        ("hfds/name", ".", "hfds/name has no other root. Leave out --data-root; a folder is hfds/FOLDER"),
        ("torch/image_folder", "nowhere", "cannot be opened: .*nowhere"),
    ],
)
def test_what_cannot_be_opened_is_told(
    small: TransformSettings, tmp_path: Path, data: str, root: str | None, problem: str
) -> None:
    """Each failure of another library is one line with a remedy."""
    with pytest.raises(ImagesError, match=problem) as caught:
        open_source(data, small, root=None if root is None else tmp_path / root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind, package in PACKAGES.items() if find_spec(package) is None])
def test_a_missing_package_is_named(small: TransformSettings, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A data set whose package is not installed says which, in one line."""
    package = PACKAGES[kind].replace("_", "-")
    with pytest.raises(ImagesError, match=f"{kind}/x needs the package {package}. Install it: pip install {package}"):
        open_source(f"{kind}/x", small)
    assert capfd.readouterr() == ("", "")


class Parade(Reader):  # type: ignore[misc]
    """A reader of timm's kind: photos one after the other, labelled by their number."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        for number in range(self.count):
            yield Image.new("L", (40, 50), number), number

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        raise NotImplementedError


def stream(count: int, settings: TransformSettings) -> Stream:
    """A stream of timm's kind."""
    return Stream(IterableImageDataset(None, reader=Parade(count)), Reading(settings, None))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and 3.13 warn of every DataLoader worker.
@pytest.mark.parametrize("workers", [0, 3])
def test_chosen_batches_of_a_stream(small: TransformSettings, workers: int) -> None:
    """Batches of a stream hold the images at their places, however many workers there are."""
    source = Source([str(place) for place in range(10)], None, (), "", stream(10, small))
    first, last = source.batches([range(2, 5), range(8, 10)], workers=workers)
    assert (first.positions.tolist(), first.labels.tolist()) == ([2, 3, 4], [2, 3, 4])
    assert (last.positions.tolist(), last.pixels[:, 0, 0, 0].tolist()) == ([8, 9], [8, 9])


def test_a_stream_that_ends_early(small: TransformSettings) -> None:
    """What there is of the batch is given, and the later ones are not."""
    batches = list(StreamedBatches(stream(4, small), [range(3), range(3, 6), range(6, 9)]))
    assert [batch.positions.tolist() for batch in batches] == [[0, 1, 2], [3]]


@pytest.mark.parametrize(("raw", "label"), [(3, 3), (np.int32(3), 3), (torch.tensor(3), 3), (None, -1), (-7, -1)])
def test_labels_of_any_kind(small: TransformSettings, raw: Any, label: int) -> None:
    """Whole numbers of any library are labels; none and negative ones are unknown."""
    assert Reading(small, None).label(raw) == label


def test_several_classes_an_image_are_refused(small: TransformSettings) -> None:
    """A label that is a list is a reason to skip, so that all images being so is told."""
    item = IndexedPictures([(Image.new("RGB", (40, 40)), [1, 2])], [0], Reading(small, None))[0]
    assert item.reason == "the label [1, 2] is not one class"
    assert collate_readable([item]).unreadable == [0]


# WebDataset closes its files late, when a stream is left before its end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_like_the_folder(small: TransformSettings, tmp_path: Path) -> None:
    """Photos packed into tar files give the pixels of the same photos in a folder; their number must be said."""
    pytest.importorskip("webdataset")
    listing = labelled_photos()
    with tarfile.open(tmp_path / "v-00.tar", "w") as archive:
        for number in range(5):
            for name, content in (("jpg", listing.file(number).read_bytes()), ("cls", b"%d" % listing.labels[number])):
                member = tarfile.TarInfo(f"{number:04d}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    source = open_source(f"wds/{tmp_path}", small, split="v-{00..00}.tar|5")
    assert torch.equal(pixels(source, range(5)), pixels(open_source(str(PHOTOS), small), range(5)))
    assert labels(source, 5) == list(listing.labels[:5])
    with pytest.raises(ImagesError, match=r"does not say how many images it has. Add the number to the split"):
        open_source(f"wds/{tmp_path}", small, split="v-{00..00}.tar")
