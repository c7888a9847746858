"""What is drawn over a picture lies exactly on its patches."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_looks import pruning_look, region_look
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from lfvit_cli.figures.page import Box, Page, page
from lfvit_cli.figures.regions import (
    attention_shares,
    cell_borders,
    dimming,
    draw_attention,
    draw_focus,
    draw_photo,
    draw_pruning,
    patch_mask,
    region_box,
)

BOX = Box(0.5, 0.25, 4.0, 4.0)


def drawn(sheet: Page, box: Box = BOX) -> NDArray[np.uint8]:
    """The pixels of a box, at 100 a inch."""
    canvas: Any = FigureCanvasAgg(sheet.figure)
    canvas.draw()
    edges = [round(100 * edge) for edge in (box.top, box.bottom, box.left, box.right)]
    return np.asarray(canvas.buffer_rgba())[edges[0] : edges[1], edges[2] : edges[3], :3]


def cell_centres(pixels: NDArray[np.uint8], grid: int) -> NDArray[np.float64]:
    """(grid, grid) brightness a little off the middle of each cell, away from lines."""
    side = len(pixels)
    middles = ((np.arange(grid) + 0.4) * side / grid).astype(int)
    return np.asarray(pixels[np.ix_(middles, middles)].mean(axis=-1))


@pytest.mark.parametrize(("grid", "size"), [(7, 5), (9, 8), (3, 1), (5, 5)])
def test_bright_patches_are_the_fine_tokens(grid: int, size: int) -> None:
    """On a white picture, the patches that stay bright are those that focus takes as fine tokens, and no other."""
    look = region_look(grid, size)
    assert look.region is not None
    with page(5, 5) as sheet:
        draw_focus(sheet, look, look.region, BOX)
    bright = cell_centres(drawn(sheet), 2 * grid) > 200
    assert np.flatnonzero(bright).tolist() == look.region.fine_tokens.tolist()


def test_bright_patches_are_those_a_pruning_keeps() -> None:
    """The same for a token-pruning network."""
    pruning = pruning_look().prunings[1]
    with page(5, 5) as sheet:
        draw_pruning(sheet, pruning_look(), pruning, BOX)
    bright = cell_centres(drawn(sheet), pruning.grid) > 200
    assert np.flatnonzero(bright).tolist() == pruning.kept.tolist()


def test_the_shade_ends_with_its_patch() -> None:
    """Along a row without lines, brightness changes at the patches' borders to the pixel."""
    mask = patch_mask(np.array([5]), 4)
    with page(5, 5) as sheet:
        sheet.image(np.full((8, 8, 3), 255, dtype=np.uint8), BOX)
        sheet.image(dimming(mask), BOX, interpolation="nearest")
    row = drawn(sheet)[150].mean(axis=-1)
    assert (np.flatnonzero(row > 250) == np.arange(100, 200)).all()


def test_the_hottest_cell_has_the_most_attention() -> None:
    """The heat map's brightness ranks the cells as the class attention does."""
    look = region_look()
    assert look.region is not None
    with page(5, 5) as sheet:
        draw_attention(sheet, look, look.region, BOX)
    shown = cell_centres(drawn(sheet), 7).ravel()
    attention = look.region.attention.ravel()
    assert shown.argmax() == attention.argmax()
    assert attention_shares(look.region).sum() == pytest.approx(100)


def test_the_region_is_outlined_where_it_lies() -> None:
    """The outline goes through the borders of the window's cells."""
    look = region_look(7, 5)
    assert look.region is not None
    box = region_box(look.region, Box(0, 0, 7, 7))
    assert box == pytest.approx((0, 2, 5, 5))


@settings(deadline=None)
@given(
    st.integers(1, 7).flatmap(lambda grid: st.lists(st.integers(0, grid**2 - 1), unique=True).map(lambda c: (grid, c)))
)
def test_borders_are_drawn_once(case: tuple[int, list[int]]) -> None:
    """Every side of every cell of a mask is a line, none twice."""
    grid, cells = case
    mask = patch_mask(np.array(cells, dtype=np.int64), grid)
    lines = cell_borders(mask, Box(0, 0, grid, grid))
    found = [tuple(map(tuple, np.rint(line).astype(int).tolist())) for line in lines]
    expected = set()
    for cell in cells:
        y, x = divmod(cell, grid)
        expected |= {
            ((x, y), (x + 1, y)),
            ((x, y + 1), (x + 1, y + 1)),
            ((x, y), (x, y + 1)),
            ((x + 1, y), (x + 1, y + 1)),
        }
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_the_crop_is_outlined_on_the_photo() -> None:
    """The outline lies where the frame says, on a photo that keeps its shape."""
    look = region_look()
    with page(5, 5) as sheet:
        place, outline = draw_photo(sheet, look, BOX)
    # A photo of 200 x 300 pixels is 4 inches high.
    assert place == pytest.approx((0.5, 0.25, 200 / 75, 4))
    assert outline == pytest.approx((0.5 + 12.5 / 75, 0.25 + 62.5 / 75, 175 / 75, 175 / 75))
