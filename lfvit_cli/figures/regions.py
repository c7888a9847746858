"""Where a network looked, drawn over what it sees: class attention, the chosen region, kept and coarse patches."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lfvit_cli.figures.page import Box, Page
from lfvit_cli.measure.looks import Look, PruningLook, RegionLook

# Ascends in brightness, so that it reads without colour too.
HEAT = "inferno"
REGION = "#56B4E9"
_DIM = (0.07, 0.08, 0.11, 0.70)
_GREY = (0.299, 0.587, 0.114)


def patch_mask(patches: NDArray[np.int64], grid: int) -> NDArray[np.bool_]:
    """(grid, grid) True at row-major patch indices."""
    mask = np.zeros(grid * grid, dtype=np.bool_)
    mask[patches] = True
    return mask.reshape(grid, grid)


def cell_borders(cells: NDArray[np.bool_], box: Box) -> NDArray[np.float64]:
    """(n, 2, 2) lines around every cell of a (g, g) mask that fills a box, each line once."""
    grid = len(cells)
    padded = np.pad(cells, 1)
    # A border runs wherever a cell of the mask lies on either side of it.
    rows, columns = np.nonzero(padded[:-1, 1:-1] | padded[1:, 1:-1])
    across = np.stack([np.stack([columns, rows], 1), np.stack([columns + 1, rows], 1)], 1)
    rows, columns = np.nonzero(padded[1:-1, :-1] | padded[1:-1, 1:])
    down = np.stack([np.stack([columns, rows], 1), np.stack([columns, rows + 1], 1)], 1)
    corner, cell = np.array([box.left, box.top]), np.array([box.width, box.height]) / grid
    borders: NDArray[np.float64] = corner + cell * np.concatenate([across, down])
    return borders


def dimming(bright: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(g, g, 4) colours to lay over a picture: nothing over bright patches, a shade over the others."""
    overlay = np.zeros((*bright.shape, 4))
    overlay[~bright] = _DIM
    return overlay


def attention_shares(region: RegionLook) -> NDArray[np.float64]:
    """(s, s) each cell's share of the class attention, in per cent."""
    attention = region.attention.astype(np.float64)
    total = attention.sum()
    return 100 * attention / total if total > 0 else np.zeros_like(attention)


def region_box(region: RegionLook, box: Box) -> Box:
    """The chosen region, inside the box that the picture fills."""
    share = region.size / region.grid
    return box.part(region.column / region.grid, region.row / region.grid, share, share)


def draw_photo(page: Page, look: Look, box: Box) -> tuple[Box, Box]:
    """Draw the whole photo in a box, and outline what the network sees of it; give where both lie."""
    height, width = look.photo.shape[:2]
    place = box.holding(width, height)
    page.image(look.photo, place, interpolation="antialiased")
    frame = look.frame
    outline = place.part(frame.left / width, frame.top / height, frame.width / width, frame.height / height)
    draw_outline(page, outline, 1.6, "white", "#222222")
    return place, outline


def draw_attention(page: Page, look: Look, region: RegionLook, box: Box) -> None:
    """Draw the class attention as a heat map over the picture in grey, with the region outlined."""
    grey = look.pixels @ np.array(_GREY)
    page.image(grey, box, cmap="gray", vmin=0, vmax=255)
    page.image(attention_shares(region), box, cmap=_see_through(), interpolation="nearest")
    draw_outline(page, region_box(region, box), 2.6, REGION)


def draw_focus(page: Page, look: Look, region: RegionLook, box: Box) -> None:
    """Draw what focus takes: fine patches bright in a fine grid, coarse cells dimmed in a coarse one."""
    fine = patch_mask(region.fine_tokens, 2 * region.grid)
    coarse = patch_mask(region.coarse_cells, region.grid)
    _draw_patches(page, look, fine, box)
    page.lines(cell_borders(coarse, box), colors="white", alpha=0.55, lw=0.7)
    _draw_grid(page, fine, box)
    draw_outline(page, region_box(region, box), 2.6, REGION)


def draw_location(page: Page, look: Look, region: RegionLook, box: Box) -> None:
    """Draw what an answer after location rests on: coarse cells alone; the region that focus would have taken."""
    draw_seen(page, look, box)
    _draw_grid(page, np.ones((region.grid, region.grid), dtype=np.bool_), box)
    draw_outline(page, region_box(region, box), 1.8, REGION)


def draw_pruning(page: Page, look: Look, pruning: PruningLook, box: Box) -> None:
    """Draw the patches that a pruning leaves, the others dimmed."""
    kept = patch_mask(pruning.kept, pruning.grid)
    _draw_patches(page, look, kept, box)
    _draw_grid(page, kept, box)


def draw_seen(page: Page, look: Look, box: Box) -> None:
    """Draw what the network sees, as it is."""
    page.image(look.pixels, box, interpolation="antialiased")


def draw_outline(page: Page, box: Box, width: float, colour: str, casing: str = "#222222") -> None:
    """Draw a rectangle that stands out on dark and on bright pictures."""
    effect = [withStroke(linewidth=width + 1.8, foreground=casing)]
    page.rectangle(box, fill=False, ec=colour, lw=width, joinstyle="miter", path_effects=effect)


def heat_colours() -> NDArray[np.float64]:
    """(1, 256, 4) the heat map's colours over grey, from the least to the most, for a scale beside it."""
    colours = _see_through()(np.linspace(0, 1, 256))
    opacity = colours[:, 3:]
    over = np.concatenate([colours[:, :3] * opacity + 0.6 * (1 - opacity), np.ones((256, 1))], axis=1)
    return np.asarray(over[None])


def _draw_patches(page: Page, look: Look, bright: NDArray[np.bool_], box: Box) -> None:
    draw_seen(page, look, box)
    # Nearest: the shade ends exactly where a patch does.
    page.image(dimming(bright), box, interpolation="nearest")


def _draw_grid(page: Page, cells: NDArray[np.bool_], box: Box) -> None:
    borders = cell_borders(cells, box)
    page.lines(borders, colors="#222222", alpha=0.35, lw=1.3)
    page.lines(borders, colors="white", alpha=0.9, lw=0.5)


def _see_through() -> LinearSegmentedColormap:
    """The heat map's colours, more opaque where there is more."""
    from matplotlib import colormaps

    colours = colormaps[HEAT](np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(0.45, 0.85, 256)
    return LinearSegmentedColormap.from_list("heat", colours)
