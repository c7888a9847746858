"""Tests of networks/swin_layers.py: against timm's Swin, whose layers have the same parameters."""

import pytest
import torch
from networks.cases import close
from timm.models.swin_transformer import PatchMerging as TimmMerging
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from lfvit_cli.networks.swin_layers import PatchMerging, SwinBlock, from_windows, to_windows


def maps(side: int, width: int = 12) -> Tensor:
    """(2, side, side, width) of noise."""
    return torch.randn(2, side, side, width, generator=torch.Generator().manual_seed(0))


def enliven(module: nn.Module) -> None:
    """Give a module parameters under which attention differs from cell to cell."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5, generator=generator)


@pytest.mark.parametrize(("grid", "shifted"), [(14, False), (14, True), (21, True), (7, True)])
@torch.inference_mode()
def test_block_is_swins(grid: int, shifted: bool) -> None:
    """Rolled or not, and never where the map is one window."""
    block = SwinBlock(12, 3, grid, 7, shifted, 4.0, 0.0)
    enliven(block)
    theirs = SwinTransformerBlock(12, (grid, grid), num_heads=3, window_size=7, shift_size=3 if shifted else 0).eval()
    theirs.load_state_dict(block.state_dict(), strict=False)
    assert {name for name, _ in theirs.named_parameters()} == set(block.state_dict())
    assert close(block(maps(grid)), theirs(maps(grid)), 1e-4)
    assert block.shift == (3 if shifted and grid > 7 else 0)


@torch.inference_mode()
def test_merging_is_swins() -> None:
    """The four cells in the order of the published weights."""
    merging, theirs = PatchMerging(12), TimmMerging(12)
    enliven(merging)
    theirs.load_state_dict(merging.state_dict())
    assert close(merging(maps(6)), theirs(maps(6)), 1e-4)


def test_windows_are_row_major() -> None:
    """Of two images, each cut into four windows; and back."""
    cells = torch.arange(32).view(2, 4, 4, 1)
    windows = to_windows(cells, 2)
    assert windows[:2, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert windows[4, :, 0].tolist() == [16, 17, 20, 21]
    assert torch.equal(from_windows(windows, 4, 2), cells)
