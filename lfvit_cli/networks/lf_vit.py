"""LF-ViT: a low-resolution location pass, and a focus pass on the region its class attention points at."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import descending
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.stages import Stage
from lfvit_cli.networks.traces import Box
from lfvit_cli.networks.two_grids import Cells, CoarseOutput, FineOutput, TwoGridViT, from_vit, kept_count
from lfvit_cli.policies import ExitPolicy


@dataclass(frozen=True, eq=False)
class Region(Cells):
    """Where the focus pass looks.

    Attributes:
        kept_cells: (B, k) cells of the region that become fine tokens, most attended first.
        coarse_cells: (B, s*s-k) the other cells.
        window: (B,) index of the region among the (s-m+1)^2 windows, row-major.
    """

    window: Tensor


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

    def __init__(self, grid: int, region_size: int, alpha: float) -> None:
        super().__init__()
        _check(grid, region_size, alpha)
        self.grid, self.size = grid, region_size
        self.kept = kept_count(region_size**2, alpha)
        cells = torch.arange(grid**2, device="cpu").view(grid, grid)
        windows = cells.unfold(0, region_size, 1).unfold(1, region_size, 1).reshape(-1, region_size**2)
        inside = torch.zeros(len(windows), grid**2, dtype=torch.bool, device="cpu").scatter_(1, windows, True)
        self.register_buffer("window_cells", windows, persistent=False)
        self.register_buffer("in_window", inside, persistent=False)

    def forward(self, class_attention: Tensor) -> Region:
        """(B, s*s) class attention G to the chosen region and the split of its cells.

        One sort gives both halves of the split: cells of the window come first, ranked by G.
        """
        scores = class_attention[:, self.window_cells].sum(dim=-1)
        window = scores.argmax(dim=1)
        order = descending(class_attention.masked_fill(~self.in_window[window], -torch.inf))
        return Region(order[:, : self.kept], order[:, self.kept :], window)

    def box(self, window: Tensor) -> Box:
        """The (B,) chosen windows, for pictures."""
        across = self.grid - self.size + 1
        row, column = window // across, window % across
        return Box(row, column, self.size, self.size, (self.grid, self.grid))


def _check(grid: int, region_size: int, alpha: float) -> None:
    if grid < 1:
        raise KeywordError(f"location_grid={grid} is not a grid", "Give a grid of at least one cell a side.")
    if not 1 <= region_size <= grid:
        raise KeywordError(
            f"region_size={region_size} does not fit a location grid of {grid} x {grid} cells",
            f"Give a region_size from 1 to {grid}.",
        )
    if not 0 < alpha <= 1:
        raise KeywordError(f"alpha={alpha} is not a share of the region", "Give an alpha above 0 and at most 1.")


@dataclass(frozen=True, eq=False)
class FocusOutput(FineOutput):
    """The focus pass, and where it looked.

    Attributes:
        region: (B,) index of the chosen m x m window, row-major; None where all tokens are fine.
    """

    region: Tensor | None


class LFViT(TwoGridViT):
    """Localization and Focus Vision Transformer (Hu et al., AAAI 2024, arXiv 2402.00033).

    Args:
        location_grid: s; location images are 16s, focus images 32s pixels a side (for 16-pixel patches).
        patch_size: pixels a side of a patch, in both passes.
        region_size: m, cells a side of the region; published: 5 at s=7, 8 at s=9.
        alpha: share of the region's cells refined into fine tokens.
        shared: further keywords of :class:`TwoGridViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    grid_keyword: ClassVar[str] = "location_grid"

    def __init__(
        self,
        location_grid: int = 7,
        patch_size: int = 16,
        region_size: int | None = None,
        alpha: float = 0.88,
        **shared: Any,
    ) -> None:
        size = default_region_size(location_grid) if region_size is None else region_size
        selector = RegionSelector(location_grid, size, alpha)
        self.grid, self.kept = location_grid, selector.kept
        super().__init__(patch_size, **shared)
        self.selector = selector

    def choose(self, class_attention: Tensor) -> Region:
        """The best region, and its most attended cells."""
        region: Region = self.selector(class_attention)
        return region

    def fine(self, images: Tensor, coarse: CoarseOutput, select: bool = True) -> FocusOutput:
        """The focus pass, over the region that the location pass attended to (sections 3.3 and 3.4)."""
        location = self.choose_cells(coarse) if select and coarse.cells is None else coarse
        fine = super().fine(images, location, select)
        window = location.cells.window if select and isinstance(location.cells, Region) else None
        traces = fine.traces if window is None else (self.selector.box(window), *fine.traces)
        return FocusOutput(fine.logits, fine.kept_cells, fine.coarse_cells, self.grid, window, traces=traces)

    def stages(self) -> tuple[Stage, ...]:
        """The location stage, and the focus stage, which first chooses its region."""
        return (
            Stage("location", lambda images, _: self.coarse(images)),
            Stage("focus", self.fine, prepare=self.choose_cells),
        )


def default_region_size(location_grid: int) -> int:
    """The published m: 8 at a 9 x 9 grid, else 5, or the whole of a smaller grid."""
    return 8 if location_grid == 9 else min(5, location_grid)


METHOD = register(
    Method(
        family="LF-ViT",
        network=LFViT,
        models=deit_sizes("lf"),
        published={
            "lf_deit_small": (
                Published(79.8, 1.70, "LF-ViT, abstract: DeiT-S's accuracy at 63 % fewer MACs"),
                Published(80.8, None, "LF-ViT, README: threshold 0.76"),
            ),
            "lf_deit_small:location_grid=9": (Published(82.2, None, "LF-ViT, README: threshold 0.75"),),
        },
        policy=ExitPolicy.at(0.76),
        checkpoint_key="pos_embed_list.0",
        from_vit=from_vit,
        training="the published losses: the focus pass learns from the labels, the location pass from the focus pass",
    )
)
