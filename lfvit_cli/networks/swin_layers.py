"""Swin's layers: windows of a map, attention within them with a bias by relative position, and merging of patches."""

import torch
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.networks.layers import check_heads, merge_heads, split_heads

# PyTorch's own, unlike DeiT's.
SWIN_EPS = 1e-5
# What fvcore counts for each value that a layer norm normalises.
NORM_MACS = 5
# Added to the scores of cells that are neighbours in the rolled map alone.
APART = -100.0


def to_windows(maps: Tensor, side: int) -> Tensor:
    """(B, h, w, C) maps to (B * n, side^2, C): their windows, row-major, as are the cells in each."""
    split: Tensor = maps.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return split.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(windows: Tensor, grid: int, side: int) -> Tensor:
    """(B * n, side^2, C) windows back to (B, grid, grid, C) maps."""
    across = grid // side
    split: Tensor = windows.unflatten(0, (-1, across, across)).unflatten(3, (side, side))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_index(side: int) -> Tensor:
    """(side^2, side^2) the row of the bias table for each pair of query and key in a window."""
    place = torch.arange(side, device="cpu")
    row, column = (each.flatten() for each in torch.meshgrid(place, place, indexing="ij"))
    down, across = (each.unsqueeze(1) - each.unsqueeze(0) + side - 1 for each in (row, column))
    return down * (2 * side - 1) + across


def shifted_mask(grid: int, side: int, shift: int) -> Tensor:
    """(n, side^2, side^2) what is added to the scores in each window of a rolled map: ``APART`` where regions meet."""
    place = torch.arange(grid, device="cpu")
    band = (place >= grid - side).long() + (place >= grid - shift).long()
    region = to_windows((3 * band.unsqueeze(1) + band).view(1, grid, grid, 1), side).squeeze(-1)
    apart = region.unsqueeze(2) != region.unsqueeze(1)
    return torch.zeros(apart.shape, device="cpu").masked_fill(apart, APART)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, through the fused kernel.

    Args:
        dim: C.
        num_heads: H.
        side: cells a side of a window.
    """

    index: Tensor

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        table = torch.empty((2 * side - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(trunc_normal_(table, std=0.02))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("index", relative_index(side), persistent=False)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """(B * n, side^2, C) to the same; the mask is (n, side^2, side^2) and the same for every image."""
        query, key, value = split_heads(self.qkv(windows), 3, self.num_heads)
        bias = self.relative_position_bias_table.t()[:, self.index].unsqueeze(0).to(query.dtype)
        if mask is not None:
            bias = bias + mask.unsqueeze(1).to(query.dtype)
            images = windows.shape[0] // mask.shape[0]
            bias = bias.expand(images, -1, -1, -1, -1).flatten(0, 1)
        mixed: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=bias)))
        return mixed


class SwinBlock(nn.Module):
    """Pre-norm block with attention within windows, of the map as it is or rolled.

    Args:
        dim: C.
        num_heads: H.
        grid: cells a side of the map.
        side: cells a side of a window.
        shifted: whether the map is rolled by half a window; a map of one window never is.
        mlp_ratio: hidden width of the MLP over C.
        drop_path: stochastic depth in training.
    """

    mask: Tensor | None

    def __init__(
        self, dim: int, num_heads: int, grid: int, side: int, shifted: bool, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.grid, self.side = grid, side
        self.shift = side // 2 if shifted and grid > side else 0
        self.norm1 = nn.LayerNorm(dim, eps=SWIN_EPS)
        self.attn = WindowAttention(dim, num_heads, side)
        self.norm2 = nn.LayerNorm(dim, eps=SWIN_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        mask = shifted_mask(grid, side, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, h, w, C) to (B, h, w, C)."""
        maps = maps + self.drop_path(self._attend(self.norm1(maps)))
        fed: Tensor = maps + self.drop_path(self.mlp(self.norm2(maps)))
        return fed

    def macs(self) -> int:
        """MACs, as fvcore counts them, of one map."""
        dim, window = self.norm1.weight.shape[0], self.side**2
        linear = 4 * dim**2 + 2 * int(self.mlp.fc1.weight.numel())
        return self.grid**2 * (linear + 2 * window * dim + 2 * NORM_MACS * dim)

    def _attend(self, maps: Tensor) -> Tensor:
        if self.shift:
            maps = maps.roll((-self.shift, -self.shift), dims=(1, 2))
        maps = from_windows(self.attn(to_windows(maps, self.side), self.mask), self.grid, self.side)
        return maps.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else maps


class PatchMerging(nn.Module):
    """Four neighbouring cells become one of twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=SWIN_EPS)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, h, w, C) to (B, h/2, w/2, 2C)."""
        # By columns: (0, 0), (1, 0), (0, 1), (1, 1).
        four = maps.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        merged: Tensor = self.reduction(self.norm(four))
        return merged

    def macs(self, cells: int) -> int:
        """MACs, as fvcore counts them, for so many cells that come in."""
        return cells // 4 * (self.reduction.weight.numel() + NORM_MACS * self.norm.weight.shape[0])
