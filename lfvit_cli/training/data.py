"""Photos decoded once and kept where the training runs, or read anew where they do not fit; and their order."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lfvit_cli.errors import TrainingError
from lfvit_cli.images.dataset import ImageDataset, collate_readable
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import Photos, load_photos
from lfvit_cli.images.transforms import TransformSettings
from lfvit_cli.training.augment import Draws, draw

SHARE_OF_MEMORY = 0.5
VALIDATION_FOLDERS = ("val", "validation")


class Labelled(NamedTuple):
    """Photos, uint8 (B, 3, R, R), and their labels (B,), on the device; and which (B,) of those asked for they are."""

    pixels: Tensor
    labels: Tensor
    positions: Tensor


class PhotoStore(Protocol):
    """Where a training's photos come from.

    Attributes:
        unreadable: the reason for each that was left out, as far as it is known beforehand.
    """

    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        """Photos in all."""
        ...

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Labelled]:
        """The photos of each batch of indexes, in turn."""
        ...


class CachedPhotos:
    """All photos decoded, in the memory of the device or, if they do not fit there, of the machine."""

    def __init__(self, photos: Photos, device: torch.device) -> None:
        roomy = _bytes(len(photos), photos.pixels.shape[-1]) < SHARE_OF_MEMORY * free_memory(device)
        place = device if roomy else torch.device("cpu")
        self.device = device
        self.unreadable = tuple(photo.reason for photo in photos.unreadable)
        self.pixels, self.labels = photos.pixels.to(place), photos.labels.to(place)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Labelled]:
        """See :class:`PhotoStore`."""
        for chosen in rows:
            here = chosen.to(self.pixels.device)
            pixels, labels = self.pixels[here].to(self.device), self.labels[here].to(self.device)
            yield Labelled(pixels, labels, torch.arange(len(chosen)))


class StreamedPhotos:
    """Photos decoded anew each time; unreadable ones are left out of their batches."""

    def __init__(self, listing: Listing, settings: TransformSettings, device: torch.device, workers: int) -> None:
        self.dataset, self.device, self.workers = ImageDataset(listing, settings), device, workers
        self.unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Labelled]:
        """See :class:`PhotoStore`."""
        loader = DataLoader(
            self.dataset,
            batch_sampler=[chosen.tolist() for chosen in rows],
            collate_fn=collate_readable,
            num_workers=self.workers,
            worker_init_fn=_leave_interrupts,
            # Else its seed would be drawn from the training's own stream, once more when the training is resumed.
            generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
        )
        for chosen, batch in zip(rows, loader, strict=True):
            unreadable = torch.isin(chosen, torch.tensor(batch.unreadable, dtype=chosen.dtype))
            pixels = batch.pixels.to(self.device, non_blocking=True)
            yield Labelled(pixels, batch.labels.to(self.device), (~unreadable).nonzero().squeeze(1))


def _leave_interrupts(_worker: int) -> None:
    """Ctrl-C reaches the workers, too, whose photos are still needed for the step under way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Splits:
    """The photos to train on and those to validate on, with the same classes."""

    train: Listing
    validation: Listing


def list_splits(data: Path, train: str = "train", validation: str | None = None) -> Splits:
    """List the two folders of class folders below ``data``.

    Args:
        data: the folder of the splits.
        train: sub-folder to train on.
        validation: sub-folder to validate on; by default ``val`` or ``validation``.

    Raises:
        ImagesError: a folder is missing or empty.
        TrainingError: the photos have no classes, or the splits have different ones.
    """
    default = next((name for name in VALIDATION_FOLDERS if (data / name).is_dir()), VALIDATION_FOLDERS[-1])
    splits = Splits(list_folder(data, split=train), list_folder(data, split=validation or default))
    if not (splits.train.class_names and splits.train.labelled):
        raise TrainingError(f"the photos below {splits.train.root} have no classes", "Sort them into class folders.")
    if splits.train.class_names != splits.validation.class_names:
        raise TrainingError(
            f"{splits.train.root} and {splits.validation.root} have different class folders",
            "Give both the same, even where one is empty.",
        )
    return splits


def open_photos(
    listing: Listing,
    settings: TransformSettings,
    device: torch.device,
    workers: int,
    progress: Callable[[int, int], None],
) -> PhotoStore:
    """Decode all photos, where half of the machine's free memory holds them, else leave them to be read each time.

    Args:
        listing: the photos.
        settings: their size, R.
        device: where they are needed.
        workers: processes that decode, where photos are read each time.
        progress: called with (photos decoded, photos in all).
    """
    if _bytes(len(listing), settings.image_size) > SHARE_OF_MEMORY * free_memory(torch.device("cpu")):
        return StreamedPhotos(listing, settings, device, workers)
    return CachedPhotos(load_photos(listing, settings, progress=progress), device)


def stored_size(settings: TransformSettings) -> TransformSettings:
    """The larger square that random crops are taken from: the short side of the evaluation's resized picture."""
    return settings.model_copy(update={"image_size": int(settings.image_size / settings.crop_pct), "crop_pct": 1.0})


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device, or in the machine for one without memory of its own."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return psutil.virtual_memory().available


def _bytes(photos: int, side: int) -> int:
    return photos * 3 * side**2


class EpochOrder:
    """The order of one epoch's photos, in equal batches, and the draws for each; the same in every process.

    Args:
        photos: how many there are.
        photos_an_update: over all processes and accumulated passes; an incomplete last update is left out.
        repeats: how often the epoch shows a photo, of accordingly fewer photos.
        seed: of the training.
        epoch: from 0.

    Raises:
        TrainingError: there are fewer photos than one update takes.
    """

    def __init__(self, photos: int, photos_an_update: int, repeats: int, seed: int, epoch: int) -> None:
        self.updates = updates_an_epoch(photos, photos_an_update)
        generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
        order = torch.randperm(photos, generator=generator)
        self._photos_an_update = photos_an_update
        places = torch.arange(self.updates * photos_an_update)
        self._order = order[places // repeats]
        self._draws = draw(len(self._order), generator)

    def positions(self, update: int, accumulate: int, process: int, processes: int) -> list[Tensor]:
        """Places in the epoch of one update's photos: a batch for each accumulated pass of one process."""
        start = update * self._photos_an_update
        places = torch.arange(start, start + self._photos_an_update)
        return [share_of(chunk, process, processes) for chunk in places.chunk(accumulate)]

    def photos(self, positions: Tensor) -> Tensor:
        """Indexes of the photos at some places."""
        return self._order[positions]

    def draws(self, positions: Tensor) -> Draws:
        """The draws for some places."""
        return self._draws[positions]


def updates_an_epoch(photos: int, photos_an_update: int) -> int:
    """Whole updates that an epoch makes.

    Raises:
        TrainingError: it makes none.
    """
    if photos < photos_an_update:
        raise TrainingError(
            f"one update takes {photos_an_update} photos, and there are {photos}", "Choose a smaller --batch-size."
        )
    return photos // photos_an_update


def share_of(batch: Tensor, process: int, processes: int) -> Tensor:
    """One process's equal part of a batch (B,).

    Mixup mixes the first photo of a batch with the last, the second with the last but one: both go to one process.
    """
    outside_in = torch.stack((batch, batch.flip(0)), dim=1).flatten()[: len(batch)]
    part = outside_in.chunk(processes)[process]
    return torch.cat((part[0::2], part[1::2].flip(0)))


def mixed_seed(*numbers: int) -> int:
    """One seed of several numbers, unlike that of any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
