"""LF-ViT's choice of where to look: the best window of the class attention, and the cells kept inside it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lfvit_cli.networks.errors import KeywordError


@dataclass(frozen=True)
class Region:
    """Where the focus stage looks, for a batch.

    Attributes:
        window: (B,) index of the chosen window among the (s-m+1)^2, row-major.
        kept_cells: (B, k) location cells that become fine tokens, most attended first.
        coarse_cells: (B, s*s-k) the other cells.
    """

    window: Tensor
    kept_cells: Tensor
    coarse_cells: Tensor


def kept_count(region_size: int, alpha: float) -> int:
    """ceil(alpha * m^2), not fooled by a product such as 0.07 * 100 = 7.000000000000001."""
    return max(1, math.ceil(round(alpha * region_size**2, 9)))


def fine_tokens_of(cells: Tensor, grid: int) -> Tensor:
    """The 2 x 2 fine tokens under each cell: indices (...) on an s x s grid to (..., 4) on the 2s x 2s grid."""
    corner = 4 * grid * (cells // grid) + 2 * (cells % grid)
    offsets = torch.tensor((0, 1, 2 * grid, 2 * grid + 1), device=cells.device)
    return corner.unsqueeze(-1) + offsets


class RegionSelector(nn.Module):
    """Neighbourhood global class attention (LF-ViT, section 3.3): every m x m window of the grid, scored and ranked.

    Args:
        grid: s, cells per side of the location grid.
        region_size: m, cells per side of the region.
        alpha: share of the region's cells that become fine tokens.

    Raises:
        KeywordError: a region that does not fit the grid, or alpha outside (0, 1].
    """

    window_cells: Tensor
    in_window: Tensor
    fine_of_cell: Tensor

    def __init__(self, grid: int, region_size: int, alpha: float) -> None:
        super().__init__()
        _check(grid, region_size, alpha)
        self.grid = grid
        self.kept = kept_count(region_size, alpha)
        cells = torch.arange(grid**2, device="cpu").view(grid, grid)
        windows = cells.unfold(0, region_size, 1).unfold(1, region_size, 1).reshape(-1, region_size**2)
        inside = torch.zeros(len(windows), grid**2, dtype=torch.bool, device="cpu").scatter_(1, windows, True)
        self.register_buffer("window_cells", windows, persistent=False)
        self.register_buffer("in_window", inside, persistent=False)
        self.register_buffer("fine_of_cell", fine_tokens_of(cells.flatten(), grid), persistent=False)

    def forward(self, class_attention: Tensor) -> Region:
        """(B, s*s) class attention G to the chosen region and the split of its cells.

        One stable sort gives both halves of the split: cells of the window come first, ranked by G.
        """
        scores = class_attention[:, self.window_cells].sum(dim=-1)
        window = scores.argmax(dim=1)
        ranked = class_attention.masked_fill(~self.in_window[window], -torch.inf)
        order = ranked.sort(dim=1, descending=True, stable=True).indices
        return Region(window, order[:, : self.kept], order[:, self.kept :])

    def fine_tokens(self, cells: Tensor) -> Tensor:
        """(B, k) location cells to their (B, 4k) fine tokens on the 2s x 2s grid, cell by cell."""
        return self.fine_of_cell[cells].flatten(1)


def _check(grid: int, region_size: int, alpha: float) -> None:
    if grid < 1:
        raise KeywordError(f"location_grid={grid} is no grid", "Give a grid of at least one cell a side.")
    if not 1 <= region_size <= grid:
        raise KeywordError(
            f"region_size={region_size} does not fit a location grid of {grid} x {grid} cells",
            f"Give a region_size from 1 to {grid}.",
        )
    if not 0 < alpha <= 1:
        raise KeywordError(f"alpha={alpha} is no share of the region", "Give an alpha above 0 and at most 1.")
