"""Images in a fixed order, wherever they come from, decoded in batches ahead of their use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.dataset import Batch, ImageDataset, Item, collate_readable
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.timm_datasets import Stream, StreamedBatches, is_timm_dataset, open_timm_dataset
from lfvit_cli.images.transforms import TransformSettings


@dataclass(frozen=True, eq=False)
class Source:
    """N images in a fixed order.

    Attributes:
        names: (N,) what an image is called: its path relative to the root, or its place in the data set.
        labels: (N,) class indexes, -1 where unknown; None where only reading the images tells.
        class_names: by index; empty where no class is named.
        sha256: hash of what is evaluated: the same images and labels have the same.
        pictures: gives an image by its place, or all of them one after the other.
    """

    names: Sequence[str]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]
    sha256: str
    pictures: Dataset[Item] | Stream

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, places: Sequence[range], *, workers: int, pinned: bool = False) -> Iterator[Batch]:
        """Decode batches, ahead of their use.

        Args:
            places: the images of each batch, in ascending order.
            workers: processes that decode; 0 decodes in this one. A stream is read by one at most.
            pinned: whether the pixels lie in memory from which a GPU copies fast.

        Raises:
            ImagesError: a process that decodes has failed or was ended.
        """
        loader: DataLoader[Batch]
        if isinstance(self.pictures, Stream):
            streamed = StreamedBatches(self.pictures, places)
            loader = DataLoader(streamed, batch_size=None, num_workers=min(workers, 1), pin_memory=pinned)
        else:
            loader = DataLoader(
                self.pictures,  # type: ignore[arg-type]
                batch_sampler=[list(place) for place in places],
                collate_fn=collate_readable,
                num_workers=workers,
                pin_memory=pinned,
            )
        try:
            yield from loader
        except ImagesError:
            raise
        except Exception as error:  # whatever a worker process or another library's reader fails with
            # The reason stands last in what a worker process reports.
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip(".")
            raise ImagesError(
                f"decoding failed: {reason}",
                "Where memory is short, use fewer --workers; --workers 0 needs no shared memory.",
            ) from error


def open_source(
    data: str,
    settings: TransformSettings,
    *,
    root: Path | None = None,
    split: str | None = None,
    class_map: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Source:
    """Open a folder of images, or a data set that timm's factory reads.

    Args:
        data: a folder, or ``wds/...``, ``hfds/...``, ``hfids/...``, ``tfds/...`` or ``torch/...``; such a name always
            means a data set: write ``./torch/...`` for a folder.
        settings: how the images are resized and cropped.
        root: where a wds/, tfds/ or torch/ data set lies.
        split: a sub-folder, or the data set's split.
        class_map: the index of every class; see :func:`lfvit_cli.images.classes.read_class_map`.
        limit: at most so many images: of a folder spread over its classes, of a stream the first.
        seed: of that choice.

    Raises:
        ImagesError: no images are found, a package is missing, or the class map does not fit.
    """
    if is_timm_dataset(data):
        return Source(*open_timm_dataset(data, settings, root, split, class_map, limit, seed))
    if root is not None:
        raise ImagesError(
            f"{data!r} is a folder, and has no other root", "Give --data-root with wds/, tfds/, torch/ only."
        )
    listing = list_folder(Path(data).expanduser(), split=split, class_map=class_map)
    if limit is not None:
        listing = sample(listing, limit, seed=seed)
    return Source(listing.paths, listing.labels, listing.class_names, listing.sha256, ImageDataset(listing, settings))
