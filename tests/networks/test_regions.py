"""Tests of the choice of a region in networks/lf_vit.py, and of cells in networks/two_grids.py."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.lf_vit import RegionSelector
from lfvit_cli.networks.two_grids import fine_tokens_of, kept_count

# Sums of small integers are exact, so that the best window and its rivals compare without rounding.
VALUES = st.integers(0, 50)


@st.composite
def selections(draw: st.DrawFn) -> tuple[int, int, float, Tensor]:
    """Any grid, any region that fits it, any alpha, and a batch of class attentions with ties."""
    grid = draw(st.integers(1, 10))
    region = draw(st.integers(1, grid))
    alpha = draw(st.floats(0, 1, exclude_min=True))
    rows = draw(st.lists(st.lists(VALUES, min_size=grid**2, max_size=grid**2), min_size=1, max_size=3))
    return grid, region, alpha, torch.tensor(rows, dtype=torch.float32)


def window_cells(window: int, grid: int, region: int) -> set[int]:
    """The cells of one window, counted by hand."""
    top, left = divmod(window, grid - region + 1)
    return {grid * row + column for row in range(top, top + region) for column in range(left, left + region)}


@settings(deadline=None)
@given(selections())
def test_kept_and_coarse_cells_partition_the_grid(selection: tuple[int, int, float, Tensor]) -> None:
    """Every cell is either kept or coarse, never both, and ceil(alpha * m^2) are kept."""
    grid, region, alpha, attention = selection
    chosen = RegionSelector(grid, region, alpha)(attention)
    assert chosen.kept_cells.shape == (len(attention), kept_count(region**2, alpha))
    for kept, coarse in zip(chosen.kept_cells.tolist(), chosen.coarse_cells.tolist(), strict=True):
        assert sorted(kept + coarse) == list(range(grid**2))


@settings(deadline=None)
@given(selections())
def test_the_window_is_the_best_of_all(selection: tuple[int, int, float, Tensor]) -> None:
    """No other window has a higher sum of class attention, by brute force over all of them."""
    grid, region, alpha, attention = selection
    chosen = RegionSelector(grid, region, alpha)(attention)
    windows = range((grid - region + 1) ** 2)
    for values, window in zip(attention.tolist(), chosen.window.tolist(), strict=True):
        sums = [sum(values[cell] for cell in window_cells(w, grid, region)) for w in windows]
        assert sums[window] == max(sums)


@settings(deadline=None)
@given(selections())
def test_kept_cells_are_the_most_attended_of_the_window(selection: tuple[int, int, float, Tensor]) -> None:
    """Kept cells lie in the window, most attended first, ahead of all the window's other cells."""
    grid, region, alpha, attention = selection
    chosen = RegionSelector(grid, region, alpha)(attention)
    for values, window, kept in zip(
        attention.tolist(), chosen.window.tolist(), chosen.kept_cells.tolist(), strict=True
    ):
        inside = window_cells(window, grid, region)
        assert set(kept) <= inside
        ranked = sorted(inside, key=lambda cell: (-values[cell], cell))
        assert kept == ranked[: len(kept)]


@settings(deadline=None)
@given(selections())
def test_fine_tokens_are_the_four_under_each_cell(selection: tuple[int, int, float, Tensor]) -> None:
    """A cell's fine tokens are the 2 x 2 at twice its row and column; no token appears twice."""
    grid, region, alpha, attention = selection
    selector = RegionSelector(grid, region, alpha)
    kept = selector(attention).kept_cells
    for cells, tokens in zip(kept.tolist(), fine_tokens_of(kept, grid).flatten(1).tolist(), strict=True):
        expected = [
            2 * grid * (2 * (cell // grid) + down) + 2 * (cell % grid) + right
            for cell in cells
            for down in (0, 1)
            for right in (0, 1)
        ]
        assert tokens == expected
        assert len(set(tokens)) == len(tokens)


@settings(deadline=None)
@given(st.integers(1, 12))
def test_fine_tokens_of_all_cells_are_all_fine_tokens(grid: int) -> None:
    """Over the whole grid every fine token is named once."""
    tokens = fine_tokens_of(torch.arange(grid**2), grid)
    assert torch.equal(tokens.flatten().sort().values, torch.arange(4 * grid**2))


@settings(deadline=None)
@given(selections())
def test_batch_rows_are_independent(selection: tuple[int, int, float, Tensor]) -> None:
    """Each row is chosen as if it were alone."""
    grid, region, alpha, attention = selection
    selector = RegionSelector(grid, region, alpha)
    together = selector(attention)
    for index, row in enumerate(attention):
        alone = selector(row[None])
        assert torch.equal(alone.window[0], together.window[index])
        assert torch.equal(alone.kept_cells[0], together.kept_cells[index])


@pytest.mark.parametrize(("region", "kept"), [(5, 22), (8, 57), (1, 1)])
def test_published_kept_counts(region: int, kept: int) -> None:
    """An alpha of 0.88 keeps 22 of 25 cells, and 57 of 64."""
    assert kept_count(region**2, 0.88) == kept


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 100))
def test_kept_count_is_the_exact_ceiling_of_written_percentages(region: int, percent: int) -> None:
    """For an alpha written in per cent the count is that of exact arithmetic, whatever floats make of it."""
    assert kept_count(region**2, percent / 100) == math.ceil(Fraction(percent, 100) * region**2)


@settings(deadline=None)
@given(st.integers(1, 20), st.floats(0, 1, exclude_min=True))
def test_something_is_always_kept(region: int, alpha: float) -> None:
    """However small alpha, one cell at least is refined, and never more than the region has."""
    assert 1 <= kept_count(region**2, alpha) <= region**2


def test_tables_move_with_the_module_and_stay_out_of_checkpoints() -> None:
    """The tables are buffers, on whichever device the network is, and no part of its published keys."""
    selector = RegionSelector(7, 5, 0.88)
    assert {name for name, _ in selector.named_buffers()} == {"window_cells", "in_window"}
    assert selector.state_dict() == {}
    assert selector.to("meta").window_cells.device.type == "meta"


def test_tables_are_real_in_a_network_built_without_weights() -> None:
    """Built on the meta device, the tables still hold their numbers."""
    with torch.device("meta"):
        selector = RegionSelector(3, 2, 1.0)
    assert selector.window_cells.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]


@pytest.mark.parametrize(
    ("grid", "region", "alpha", "words"),
    [
        (0, 1, 0.5, "location_grid=0"),
        (7, 8, 0.5, "Give a region_size from 1 to 7"),
        (7, 0, 0.5, "region_size=0"),
        (7, 5, 0.0, "alpha=0.0"),
        (7, 5, 1.01, "alpha=1.01"),
        (7, 5, math.nan, "alpha=nan"),
    ],
)
def test_impossible_regions(grid: int, region: int, alpha: float, words: str) -> None:
    """A region that fits no grid and a share that is none are refused by name."""
    with pytest.raises(KeywordError, match=words):
        RegionSelector(grid, region, alpha)
