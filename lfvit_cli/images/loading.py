"""Photos decoded ahead of their use, in threads, into one tensor."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lfvit_cli.errors import ImagesError, UnreadableImageError
from lfvit_cli.images.decode import decode_image, pillow_warnings_ignored
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform

Progress = Callable[[int, int], None]


class UnreadablePhoto(NamedTuple):
    """A file that was skipped, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Decoded photos in memory, resized and cropped but not normalised.

    Attributes:
        pixels: uint8 (N, 3, S, S).
        labels: int64 (N,); -1 where the class is unknown.
        paths: of the N photos, relative to the root of the listing.
        listing: every file that was tried.
        unreadable: the files that were skipped.
        decode_seconds: wall-clock time of reading, decoding, resizing and cropping.
    """

    pixels: Tensor
    labels: Tensor
    paths: tuple[str, ...]
    listing: Listing
    unreadable: tuple[UnreadablePhoto, ...]
    decode_seconds: float

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def images_per_second(self) -> float:
        """Decoded photos per second of wall clock."""
        return len(self) / self.decode_seconds


def load_photos(
    listing: Listing,
    settings: TransformSettings,
    *,
    limit: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Photos:
    """Decode a listing into one uint8 tensor of 3 * S * S bytes a photo.

    Args:
        listing: the files.
        settings: how they are resized and cropped.
        limit: at most so many files, sampled evenly over the classes; bounds the memory.
        seed: of the sample.
        workers: decoding threads; by default as many as Python's thread pool thinks fit.
        progress: called with (files done, files in all) after each file.

    Returns:
        The photos that could be read, in the order of the listing.

    Raises:
        ImagesError: no photo could be read, or the limit is less than one.
    """
    chosen = listing if limit is None else sample(listing, limit, seed=seed)
    transform = build_pixel_transform(settings)
    pixels = torch.empty((len(chosen), 3, settings.image_size, settings.image_size), dtype=torch.uint8)

    def decode_into_row(index: int) -> str | None:
        try:
            pixels[index] = transform(decode_image(chosen.file(index)))
        except UnreadableImageError as error:
            return error.problem
        return None

    start = time.perf_counter()
    reasons: list[str | None] = []
    with pillow_warnings_ignored(), ThreadPoolExecutor(workers) as pool:
        for reason in pool.map(decode_into_row, range(len(chosen))):
            reasons.append(reason)
            if progress is not None:
                progress(len(reasons), len(chosen))
    seconds = time.perf_counter() - start
    return _photos(chosen, pixels, reasons, seconds)


def _photos(listing: Listing, pixels: Tensor, reasons: list[str | None], seconds: float) -> Photos:
    kept = [index for index, reason in enumerate(reasons) if reason is None]
    unreadable = tuple(
        UnreadablePhoto(path, reason) for path, reason in zip(listing.paths, reasons, strict=True) if reason is not None
    )
    if not kept:
        first = f": {unreadable[0].reason}" if unreadable else ""
        raise ImagesError(
            f"none of {len(listing)} image(s) below {str(listing.root)!r} can be read{first}",
            "Check that the files are complete images.",
        )
    readable = listing.select(kept) if unreadable else listing
    return Photos(
        pixels=pixels[kept] if unreadable else pixels,
        labels=torch.tensor(readable.labels, dtype=torch.int64),
        paths=readable.paths,
        listing=listing,
        unreadable=unreadable,
        decode_seconds=seconds,
    )
