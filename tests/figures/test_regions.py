"""What is drawn over a picture lies exactly on its patches."""

from dataclasses import replace
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
    count_tokens,
    draw_heat,
    draw_photo,
    draw_tokens,
    group_borders,
    heat_scale,
    heat_values,
    region_box,
    regions_around,
    shades,
)
from lfvit_cli.looks.look import BoxLook, HeatLook, TokensLook

BOX = Box(0.5, 0.25, 4.0, 4.0)
ALIKE = ("all cells are alike", "", "")


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
def test_bright_patches_are_tokens_of_their_own(grid: int, size: int) -> None:
    """On a white picture, the patches that stay bright are those that focus takes one by one, and no other."""
    look = region_look(grid, size)
    (tokens,) = look.stages[1].tokens
    with page(5, 5) as sheet:
        draw_tokens(sheet, look, tokens, BOX)
    bright = cell_centres(drawn(sheet), 2 * grid) > 200
    assert (bright == ~tokens.shared).all()
    assert bright.sum() == 4 * max(1, round(0.88 * size**2))


def test_dropped_patches_are_dark() -> None:
    """Of a token-pruning network, only what is kept stays bright."""
    look = pruning_look()
    tokens = look.stages[0].tokens[1]
    with page(5, 5) as sheet:
        draw_tokens(sheet, look, tokens, BOX)
    bright = cell_centres(drawn(sheet), 14) > 200
    assert (bright == (tokens.owner >= 0)).all()


def test_the_shade_ends_with_its_patch() -> None:
    """Along a row without lines, brightness changes at the patches' borders to the pixel."""
    owner = np.full((4, 4), -1)
    owner[1, 1] = 5
    with page(5, 5) as sheet:
        sheet.image(np.full((8, 8, 3), 255, dtype=np.uint8), BOX)
        sheet.image(shades(TokensLook(owner, "")), BOX, interpolation="nearest")
    row = drawn(sheet)[150].mean(axis=-1)
    assert (np.flatnonzero(row > 250) == np.arange(100, 200)).all()


def test_the_hottest_cell_is_the_brightest() -> None:
    """The heat map's brightness ranks the cells as the heat does, and the photo shows through."""
    look = region_look()
    (heat,) = look.stages[0].heats
    with page(5, 5) as sheet:
        draw_heat(sheet, look, heat, BOX)
    shown = cell_centres(drawn(sheet), 7).ravel()
    assert shown.argmax() == heat.values.argmax()
    assert heat_values(heat).sum() == pytest.approx(100)
    dark = replace(look, pixels=np.zeros_like(look.pixels))
    with page(5, 5) as other:
        draw_heat(other, dark, heat, BOX)
    assert (shown - cell_centres(drawn(other), 7).ravel() > 60).all()


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([[1.0, 3.0]], ("share per cell", "25.0 %", "75.0 %")),
        ([[1.0, 1.0004]], ("share per cell", "49.99 %", "50.01 %")),
        ([[1.0, 1.00001]], ALIKE),
        ([[1.0, np.nan]], ALIKE),
        ([[-3.0, -3.0]], ALIKE),
        ([[-2.0, 3.5]], ("value", "-2", "3.5")),
        ([[0.0, 0.0]], ALIKE),
        ([[np.nan, np.inf]], ALIKE),
    ],
)
def test_the_scale_says_what_the_colours_stand_for(values: list[list[float]], scale: tuple[str, str, str]) -> None:
    """Shares of the whole, where there is one; else the values; nothing where only rounding tells cells apart."""
    heat = HeatLook(np.array(values))
    assert heat_scale(heat) == scale
    with page(5, 5) as sheet:
        draw_heat(sheet, region_look(), heat, BOX)
    assert bool(drawn(sheet).std() > 0) is (scale != ALIKE)


@pytest.mark.parametrize("stages", [0, 1])
def test_a_region_is_drawn_where_it_came_from_and_where_it_was_looked_at(stages: int) -> None:
    """That of LF-ViT's focus stage on the pictures of both stages."""
    look = region_look()
    assert regions_around(look, stages) == look.stages[1].boxes != []


def test_the_region_is_outlined_where_it_lies() -> None:
    """The outline goes through the borders of the window's cells, on a grid of any shape."""
    (region,) = region_look(7, 5).stages[1].boxes
    assert region_box(region, Box(0, 0, 7, 7)) == pytest.approx((0, 2, 5, 5))
    assert region_box(BoxLook(1, 2, 3, 4, (4, 8)), Box(0, 0, 8, 4)) == pytest.approx((2, 1, 4, 3))


@settings(deadline=None)
@given(st.integers(1, 6).flatmap(lambda side: st.lists(st.integers(-1, 3), min_size=side**2, max_size=side**2)))
def test_lines_run_between_different_tokens_alone(owners: list[int]) -> None:
    """Every side that two patches of different tokens share, or a kept patch and the edge, is a line; none twice."""
    side = round(len(owners) ** 0.5)
    owner = np.array(owners).reshape(side, side)
    lines = group_borders(owner, Box(0, 0, side, side))
    found = [tuple(map(tuple, np.rint(line).astype(int).tolist())) for line in lines]
    padded = np.pad(owner, 1, constant_values=-1)
    expected = set()
    for y in range(side + 1):
        for x in range(side + 1):
            if x < side and padded[y, x + 1] != padded[y + 1, x + 1]:
                expected.add(((x, y), (x + 1, y)))
            if y < side and padded[y + 1, x] != padded[y + 1, x + 1]:
                expected.add(((x, y), (x, y + 1)))
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_tokens_are_counted_in_words() -> None:
    """Kept patches; or tokens, of which some are groups."""
    assert count_tokens(pruning_look().stages[0].tokens[0]) == "150 of 196 patches kept"
    assert count_tokens(region_look().stages[1].tokens[0]) == "115 tokens: 88 patches and 27 groups"
    owner = np.array([[0, 0], [2, -1]])
    assert count_tokens(TokensLook(owner, "")) == "2 tokens: 1 patch and 1 group, 1 dropped"
    assert count_tokens(TokensLook(np.array([[0, 0], [2, 2]]), "")) == "2 groups of patches"
    assert count_tokens(TokensLook(np.full((2, 2), -1), "")) == "0 of 4 patches kept"


def test_windows_alone_are_not_veiled() -> None:
    """Where every patch shares its token, a veil would tell nothing."""
    groups = np.arange(16).reshape(4, 4) // 8
    assert (shades(TokensLook(groups, ""))[..., 3] == 0).all()
    single = groups.copy()
    single[0, 0] = 9
    assert (shades(TokensLook(single, ""))[..., 3] > 0).sum() == 15


def test_the_crop_is_outlined_on_the_photo() -> None:
    """The outline lies where the frame says, on a photo that keeps its shape."""
    look = region_look()
    with page(5, 5) as sheet:
        place, outline = draw_photo(sheet, look, BOX)
    # A photo of 200 x 300 pixels is 4 inches high.
    assert place == pytest.approx((0.5, 0.25, 200 / 75, 4))
    assert outline == pytest.approx((0.5 + 12.5 / 75, 0.25 + 62.5 / 75, 175 / 75, 175 / 75))
