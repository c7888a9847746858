"""Traces: what a network shows of itself. All that pictures know of a network, and the only thing they know."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lfvit_cli.networks.trees import Tree


@dataclass(frozen=True, eq=False)
class Trace(Tree):
    """The base of all traces."""


@dataclass(frozen=True, eq=False)
class Heat(Trace):
    """How strongly each cell of a grid over the image was attended to.

    Attributes:
        values: (B, h, w), of any scale.
        name: what it shows, for a picture's title.
    """

    values: Tensor
    name: str = "attention"


@dataclass(frozen=True, eq=False)
class Box(Trace):
    """A rectangle of cells on a grid over the image.

    Attributes:
        row: (B,) of its upper left cell.
        column: (B,) of its upper left cell.
        height: cells down.
        width: cells across.
        grid: (h, w) cells of the whole grid.
    """

    row: Tensor
    column: Tensor
    height: int
    width: int
    grid: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Tokens(Trace):
    """Which token each patch belongs to.

    Patches of the same owner share one token (merged, fused, or one coarse cell); -1 marks a patch that was dropped.

    Attributes:
        owner: (B, h, w) integers.
        name: what has just happened, for a picture's title, such as ``layer 3``.
    """

    owner: Tensor
    name: str = ""


def kept_tokens(kept: Tensor, grid: tuple[int, int], name: str = "") -> Tokens:
    """Tokens where some patches are kept, each as itself, and all others dropped.

    Args:
        kept: (B, n) indices of patches, row-major.
        grid: (h, w) patches.
        name: see :class:`Tokens`.
    """
    height, width = grid
    owner = torch.full((kept.shape[0], height * width), -1, dtype=torch.long, device=kept.device)
    owner = owner.scatter(1, kept, kept)
    return Tokens(owner.view(-1, height, width), name)
