"""A network's traces drawn over what it sees: heat, boxes, and which token each patch belongs to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lfvit_cli.figures.page import Box, Page
from lfvit_cli.looks.look import BoxLook, HeatLook, Look, TokensLook

# Ascends in brightness, so that it reads without colour too.
HEAT = "inferno"
REGION = "#56B4E9"
# The photo shows through everywhere, most where there is least heat.
_LEAST_OPAQUE, _MOST_OPAQUE = 0.30, 0.72
_DIM, _VEIL = (0.07, 0.08, 0.11, 0.72), (0.07, 0.08, 0.11, 0.38)
_GREY = (0.299, 0.587, 0.114)
_DARK = "#222222"
_MOST_DIGITS = 6
_ROUNDING = 1e-4  # as a share of the largest


class Scale(NamedTuple):
    """What the colours of a heat map stand for; no least and no most where all cells are alike."""

    words: str
    least: str = ""
    most: str = ""


def draw_photo(page: Page, look: Look, box: Box) -> tuple[Box, Box]:
    """Draw the whole photo in a box, and outline what the network sees of it; give where both lie."""
    height, width = look.photo.shape[:2]
    place = box.holding(width, height)
    page.image(look.photo, place, interpolation="antialiased")
    frame = look.frame
    outline = place.part(frame.left / width, frame.top / height, frame.width / width, frame.height / height)
    draw_outline(page, outline, 1.6, "white")
    return place, outline


def draw_seen(page: Page, look: Look, box: Box, regions: Sequence[BoxLook] = (), width: float = 2.6) -> None:
    """Draw what the network sees, with regions outlined."""
    page.image(look.pixels, box, interpolation="antialiased")
    _draw_regions(page, regions, box, width)


def draw_heat(page: Page, look: Look, heat: HeatLook, box: Box, regions: Sequence[BoxLook] = ()) -> None:
    """Draw a heat map over the picture in grey, which shows through, with regions outlined."""
    grey = look.pixels @ np.array(_GREY)
    page.image(grey, box, cmap="gray", vmin=0, vmax=255)
    page.image(heat_values(heat), box, cmap=_see_through(), interpolation="nearest")
    _draw_regions(page, regions, box)


def draw_tokens(page: Page, look: Look, tokens: TokensLook, box: Box, regions: Sequence[BoxLook] = ()) -> None:
    """Draw which patches are left: dropped ones dark, those that share a token veiled and outlined as one."""
    draw_seen(page, look, box)
    # Nearest: the shade ends exactly where a patch does.
    page.image(shades(tokens), box, interpolation="nearest")
    borders = group_borders(tokens.owner, box)
    page.lines(borders, colors=_DARK, alpha=0.35, lw=1.3)
    page.lines(borders, colors="white", alpha=0.9, lw=0.5)
    _draw_regions(page, regions, box)


def draw_choice(page: Page, look: Look, box: Box) -> str:
    """Draw what the answer that stands rests on, and say it in a few words."""
    stage = look.stages[look.answered]
    regions = regions_around(look, look.answered)
    if stage.tokens:
        draw_tokens(page, look, stage.tokens[-1], box, regions)
        return count_tokens(stage.tokens[-1])
    if stage.heats:
        draw_heat(page, look, stage.heats[-1], box, regions)
        return f"{stage.heats[-1].name} after {stage.name}"
    draw_seen(page, look, box, regions)
    height, width = look.pixels.shape[:2]
    return f"all of {height} x {width} px"


def regions_around(look: Look, stage: int) -> list[BoxLook]:
    """The regions that a stage looked at, and those that the next one was to look at because of it."""
    return [region for each in look.stages[stage : stage + 2] for region in each.boxes]


def heat_values(heat: HeatLook) -> NDArray[np.float64]:
    """(h, w) what a heat map shows: each cell's share of the whole, in per cent; values below zero as they are.

    A cell that is no number counts as the least. Cells that differ by rounding alone are made the same, since colours
    would blow up the difference.
    """
    values = heat.values.astype(np.float64)
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.min() if finite.size else 0.0)
    total = values.sum()
    shares: NDArray[np.float64] = 100 * values / total if values.min() >= 0 and total > 0 else values
    alike = np.ptp(shares) <= _ROUNDING * np.abs(shares).max()
    return np.full_like(shares, shares.mean()) if alike else shares


def heat_scale(heat: HeatLook) -> Scale:
    """What the colours stand for, with as many digits as it takes to tell the least from the most."""
    values = heat_values(heat)
    least, most = float(values.min()), float(values.max())
    if least == most:
        return Scale("all cells are alike")
    if least < 0:
        return Scale("value", f"{least:.3g}", f"{most:.3g}")
    told_apart = (digits for digits in range(1, _MOST_DIGITS) if f"{least:.{digits}f}" != f"{most:.{digits}f}")
    digits = next(told_apart, 1)
    return Scale("share per cell", f"{least:.{digits}f} %", f"{most:.{digits}f} %")


def heat_colours() -> NDArray[np.float64]:
    """(1, 256, 4) the heat map's colours over grey, from the least to the most, for a scale beside it."""
    colours = _see_through()(np.linspace(0, 1, 256))
    opacity = colours[:, 3:]
    over = np.concatenate([colours[:, :3] * opacity + 0.6 * (1 - opacity), np.ones((256, 1))], axis=1)
    return np.asarray(over[None])


def shades(tokens: TokensLook) -> NDArray[np.float64]:
    """(h, w, 4) colours to lay over a picture: dark over dropped patches, a veil over those that share a token.

    Where no patch has a token of its own, a veil would tell nothing, and there is none.
    """
    overlay = np.zeros((*tokens.owner.shape, 4))
    kept = tokens.owner >= 0
    if not tokens.shared[kept].all():
        overlay[tokens.shared] = _VEIL
    overlay[~kept] = _DIM
    return overlay


def group_borders(owner: NDArray[np.int64], box: Box) -> NDArray[np.float64]:
    """(n, 2, 2) lines between patches of different tokens, and round the kept ones; (h, w) owners fill the box."""
    height, width = owner.shape
    padded = np.pad(owner, 1, constant_values=-1)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]
    rows, columns = np.nonzero(above != below)
    across = np.stack([np.stack([columns, rows], 1), np.stack([columns + 1, rows], 1)], 1)
    before, after = padded[1:-1, :-1], padded[1:-1, 1:]
    rows, columns = np.nonzero(before != after)
    down = np.stack([np.stack([columns, rows], 1), np.stack([columns, rows + 1], 1)], 1)
    corner, cell = np.array([box.left, box.top]), np.array([box.width / width, box.height / height])
    borders: NDArray[np.float64] = corner + cell * np.concatenate([across, down])
    return borders


def count_tokens(tokens: TokensLook) -> str:
    """How many tokens patches belong to, in a few words."""
    patches, shared = tokens.owner.size, int(tokens.shared.sum())
    if not shared:
        return f"{tokens.kept} of {patches} patches kept"
    alone = tokens.kept - shared
    groups = tokens.tokens - alone
    parts = [_several(alone, "patch", "patches"), _several(groups, "group", "groups")] if alone else []
    dropped = f", {patches - tokens.kept} dropped" if tokens.kept < patches else ""
    if not parts:
        return f"{_several(groups, 'group', 'groups')} of patches{dropped}"
    return f"{tokens.tokens} tokens: {' and '.join(parts)}{dropped}"


def region_box(region: BoxLook, box: Box) -> Box:
    """A region, inside the box that the picture fills."""
    height, width = region.grid
    return box.part(region.column / width, region.row / height, region.width / width, region.height / height)


def draw_outline(page: Page, box: Box, width: float, colour: str) -> None:
    """Draw a rectangle that stands out on dark and on bright pictures."""
    effect = [withStroke(linewidth=width + 1.8, foreground=_DARK)]
    page.rectangle(box, fill=False, ec=colour, lw=width, joinstyle="miter", path_effects=effect)


def _draw_regions(page: Page, regions: Sequence[BoxLook], box: Box, width: float = 2.6) -> None:
    for region in regions:
        draw_outline(page, region_box(region, box), width, REGION)


def _several(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _see_through() -> LinearSegmentedColormap:
    """The heat map's colours, more opaque where there is more."""
    colours = colormaps[HEAT](np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(_LEAST_OPAQUE, _MOST_OPAQUE, 256)
    return LinearSegmentedColormap.from_list("heat", colours)
