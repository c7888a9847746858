"""A listing as a PyTorch dataset, for evaluations too large to hold in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lfvit_cli.errors import UnreadableImageError
from lfvit_cli.images.decode import open_image
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform


class Item(NamedTuple):
    """One image: its pixels, uint8 (3, S, S), and place in the listing; if unreadable, black and with the reason."""

    pixels: Tensor
    label: int
    position: int
    reason: str | None


class Batch(NamedTuple):
    """The readable images of a batch, and which were not.

    Attributes:
        pixels: uint8 (B, 3, S, S); B may be 0.
        labels: int64 (B,).
        positions: int64 (B,), in the listing.
        unreadable: the positions of the images left out.
        reasons: why, one for each of them.
    """

    pixels: Tensor
    labels: Tensor
    positions: Tensor
    unreadable: list[int]
    reasons: list[str]


class ImageDataset(Dataset[Item]):
    """The images of a listing, resized and cropped but not normalised; an unreadable one is flagged, never raised."""

    def __init__(self, listing: Listing, settings: TransformSettings) -> None:
        self.listing = listing
        self.settings = settings
        self._transform = build_pixel_transform(settings)

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, index: int) -> Item:
        label = self.listing.labels[index]
        try:
            return Item(self._transform(open_image(self.listing.file(index))), label, index, None)
        except UnreadableImageError as error:
            side = self.settings.image_size
            return Item(torch.zeros((3, side, side), dtype=torch.uint8), label, index, error.problem)


def collate_readable(items: Sequence[Item]) -> Batch:
    """Stack the readable items, and name the others; for `DataLoader(collate_fn=...)`.

    Args:
        items: at least one item.
    """
    readable = [item for item in items if item.reason is None]
    shape = (len(readable), *items[0].pixels.shape)
    return Batch(
        # An empty list cannot be stacked; an empty batch still has its shape.
        pixels=torch.stack([item.pixels for item in readable]) if readable else torch.empty(shape, dtype=torch.uint8),
        labels=torch.tensor([item.label for item in readable], dtype=torch.int64),
        positions=torch.tensor([item.position for item in readable], dtype=torch.int64),
        unreadable=[item.position for item in items if item.reason is not None],
        reasons=[item.reason for item in items if item.reason is not None],
    )
