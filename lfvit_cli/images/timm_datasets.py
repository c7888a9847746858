"""The data sets that timm's factory reads: WebDataset, Hugging Face, TensorFlow and torchvision."""

import hashlib
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from timm.data import ImageDataset as TimmImageDataset
from timm.data import create_dataset
from torch.utils.data import Dataset, IterableDataset

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.classes import class_names_by_index, read_class_map
from lfvit_cli.images.dataset import Batch, Item, collate_readable
from lfvit_cli.images.decode import decode_image, open_image, pillow_warnings_ignored, to_rgb
from lfvit_cli.images.listing import UNLABELLED
from lfvit_cli.images.sampling import choose
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform

# Kind of data set: the package that reads it.
PACKAGES = {
    "wds": "webdataset",
    "hfds": "datasets",
    "hfids": "datasets",
    "tfds": "tensorflow_datasets",
    "torch": "torchvision",
}
_DEFAULT_SPLIT = "validation"


class OpenedDataset(NamedTuple):
    """A data set of timm's factory; see :class:`lfvit_cli.images.sources.Source`."""

    names: Sequence[str]
    labels: None
    class_names: tuple[str, ...]
    sha256: str
    pictures: "IndexedPictures | Stream"


class Reading(NamedTuple):
    """How a picture and its label become an item.

    Attributes:
        settings: how it is resized and cropped.
        new_labels: what a class map makes of the data set's labels; None without one.
    """

    settings: TransformSettings
    new_labels: dict[int, int] | None

    def label(self, raw: Any) -> int:
        """A class index, -1 where unknown.

        Raises:
            ImagesError: the data set does not give one class an image.
        """
        try:
            index = UNLABELLED if raw is None else operator.index(raw)
        except TypeError as error:
            raise ImagesError(f"the label {raw!r} is not one class", "Use data with one class an image.") from error
        if index < 0:
            return UNLABELLED
        return index if self.new_labels is None else self.new_labels[index]


class IndexedPictures(Dataset[Item]):
    """Chosen images of a data set with random access; an unreadable one is flagged, never raised."""

    def __init__(self, pictures: Any, chosen: Sequence[int], reading: Reading) -> None:
        self.pictures, self.chosen, self.reading = pictures, chosen, reading
        self._transform = build_pixel_transform(reading.settings)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Item:
        try:
            picture, label = self._read(self.chosen[index])
            return Item(self._transform(picture), self.reading.label(label), index, None)
        except Exception as error:  # a reader of another library fails as it likes
            side = self.reading.settings.image_size
            reason = getattr(error, "problem", None) or str(error) or type(error).__name__
            return Item(torch.zeros((3, side, side), dtype=torch.uint8), UNLABELLED, index, reason)

    def _read(self, place: int) -> tuple[Image.Image, Any]:
        if isinstance(self.pictures, TimmImageDataset):
            # Its own indexing would put the next image in the place of an unreadable one.
            file, label = self.pictures.reader[place]
            with file, pillow_warnings_ignored():
                return decode_image(file), label
        picture, label = self.pictures[place]
        return to_rgb(picture), label


class Stream(NamedTuple):
    """Images that can only be read one after the other, always in the same order."""

    pictures: Any
    reading: Reading


class StreamedBatches(IterableDataset[Batch]):
    """Chosen batches of a stream, read from its start; where it ends early, what there is of them."""

    def __init__(self, stream: Stream, places: Sequence[range]) -> None:
        self.stream, self.places = stream, places

    def __iter__(self) -> Iterator[Batch]:
        pictures, reading = self.stream
        transform = build_pixel_transform(reading.settings)
        wanted, items = iter(self.places), list[Item]()
        place = next(wanted, None)
        for position, (picture, label) in enumerate(pictures):
            if place is None:
                return
            if position >= place.start:
                items.append(Item(transform(to_rgb(picture)), reading.label(label), position, None))
            if position + 1 == place.stop:
                yield collate_readable(items)
                place, items = next(wanted, None), []
        if items:
            yield collate_readable(items)


def is_timm_dataset(data: str) -> bool:
    """Whether a name begins like one that timm's factory knows: ``wds/``, ``hfds/``, ``tfds/``, ``torch/``, ..."""
    kind, slash, _ = data.partition("/")
    return bool(slash) and kind in PACKAGES


def open_timm_dataset(
    data: str,
    settings: TransformSettings,
    root: Path | None,
    split: str | None,
    class_map: Path | None,
    limit: int | None,
    seed: int,
) -> OpenedDataset:
    """Open a data set by timm's name for it; the arguments are those of ``open_source``.

    Raises:
        ImagesError: its package is missing, timm cannot open it, or the class map does not fit.
    """
    root = root or _folder_in_name(data)
    pictures = _create(data, root, split or _DEFAULT_SPLIT)
    class_to_idx = _class_to_idx(pictures)
    wanted = {} if class_map is None else read_class_map(class_map)
    new_labels = None if class_map is None else _new_labels(data, class_to_idx, wanted)
    reading, count = Reading(settings, new_labels), _count(data, pictures)
    if isinstance(pictures, IterableDataset):
        chosen: Sequence[int] = range(count if limit is None else min(limit, count))
        opened: IndexedPictures | Stream = Stream(pictures, reading)
    else:
        chosen = range(count) if limit is None else choose(count, limit, seed=seed)
        opened = IndexedPictures(pictures, chosen, reading)
    circumstances = [data, split, count, list(chosen) if limit else None, new_labels, _files(pictures, root)]
    sha256 = hashlib.sha256(json.dumps(circumstances).encode()).hexdigest()
    return OpenedDataset(
        _names(pictures, chosen, root), None, class_names_by_index(wanted or class_to_idx), sha256, opened
    )


def _folder_in_name(data: str) -> Path | None:
    """The folder of ``wds/FOLDER``: timm makes no other use of that name."""
    kind, _, rest = data.partition("/")
    return Path(rest) if kind == "wds" else None


def _create(data: str, root: Path | None, split: str) -> Any:
    kind, _, _ = data.partition("/")
    if kind in ("hfds", "hfids") and root is not None:
        # timm would take it for a cache, and fill it.
        raise ImagesError(f"{data} has no other root", f"Leave out --data-root; a folder is {kind}/FOLDER.")
    if find_spec(PACKAGES[kind]) is None:
        package = PACKAGES[kind].replace("_", "-")
        raise ImagesError(f"{data} needs the package {package}", f"Install it: pip install {package}")
    if kind == "torch" and root is None:
        raise ImagesError(f"{data} needs the folder it lies in", "Add --data-root DIR.")
    try:
        pictures = create_dataset(data, root=None if root is None else str(root.expanduser()), split=split)
    except Exception as error:  # every library fails in its own way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ImagesError(
            f"{data} cannot be opened: {reason}",
            "Check its name, --split and --data-root; nothing is downloaded for torch/.",
        ) from error
    if isinstance(pictures, IterableDataset):
        # timm would deal the images out to the processes of a launch, padding the last; shards do that exactly.
        reader: Any = pictures.reader  # type: ignore[attr-defined]
        reader.dist_rank, reader.dist_num_replicas = 0, 1
    elif hasattr(pictures, "loader"):
        pictures.loader = open_image
    return pictures


def _count(data: str, pictures: Any) -> int:
    count = len(pictures)
    if count < 1:
        raise ImagesError(
            f"{data} does not say how many images it has",
            "Add the number to the split, such as --split 'val-{00..07}.tar|5000', or an _info.json beside the files.",
        )
    return count


def _class_to_idx(pictures: Any) -> dict[str, int]:
    found = getattr(getattr(pictures, "reader", pictures), "class_to_idx", None) or {}
    return {str(name): int(index) for name, index in found.items()}


def _new_labels(data: str, class_to_idx: Mapping[str, int], wanted: Mapping[str, int]) -> dict[int, int]:
    if not class_to_idx:
        raise ImagesError(f"{data} does not name its classes", "Leave out the class map.")
    unknown = [name for name in class_to_idx if name not in wanted]
    if unknown:
        raise ImagesError(
            f"{len(unknown)} classes of {data} are not in the class map: {', '.join(unknown[:5])}",
            "Add them, or name the class map that belongs to this data.",
        )
    return {index: wanted[name] for name, index in class_to_idx.items()}


def _names(pictures: Any, chosen: Sequence[int], root: Path | None) -> Sequence[str]:
    """Paths below the root where the data set has them, else places in the data set."""
    samples = getattr(pictures, "samples", None)
    if samples is None or root is None:
        return [str(place) for place in chosen]
    return [Path(samples[place][0]).relative_to(root.expanduser()).as_posix() for place in chosen]


def _files(pictures: Any, root: Path | None) -> list[tuple[str, int]]:
    """Names and sizes of the files that the data set is read from, as far as they lie on this machine."""
    arrow = getattr(getattr(getattr(pictures, "reader", None), "dataset", None), "cache_files", None)
    if arrow is not None:
        files = [Path(file["filename"]) for file in arrow]
        # The folder of a cached file is named by the revision it was made from.
        return [(f"{file.parent.name}/{file.name}", file.stat().st_size) for file in files]
    if root is None or not root.expanduser().is_dir():
        return []
    files = sorted(file for file in root.expanduser().rglob("*") if file.is_file())
    return [(file.relative_to(root.expanduser()).as_posix(), file.stat().st_size) for file in files]
