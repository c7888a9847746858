"""A network's traces drawn over what it sees: heat, regions, and which token each patch belongs to."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lfvit_cli.figures.page import Box, Page
from lfvit_cli.looks.look import BoxLook, HeatLook, Look, TokensLook

# Ascends in brightness, so that it reads without colour too.
HEAT = "inferno"
REGION = "#56B4E9"
_DIM, _VEIL = (0.07, 0.08, 0.11, 0.72), (0.07, 0.08, 0.11, 0.38)
_GREY = (0.299, 0.587, 0.114)


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


def shades(tokens: TokensLook) -> NDArray[np.float64]:
    """(h, w, 4) colours to lay over a picture: dark over dropped patches, a veil over those that share a token."""
    overlay = np.zeros((*tokens.owner.shape, 4))
    overlay[tokens.shared] = _VEIL
    overlay[tokens.owner < 0] = _DIM
    return overlay


def heat_shares(heat: HeatLook) -> NDArray[np.float64]:
    """(h, w) each cell's share of the heat, in per cent; nothing where there is none."""
    values = np.nan_to_num(heat.values.astype(np.float64), posinf=0.0, neginf=0.0).clip(min=0)
    total = values.sum()
    return 100 * values / total if total > 0 else np.zeros_like(values)


def region_box(region: BoxLook, box: Box) -> Box:
    """A region, inside the box that the picture fills."""
    height, width = region.grid
    return box.part(region.column / width, region.row / height, region.width / width, region.height / height)


def draw_photo(page: Page, look: Look, box: Box) -> tuple[Box, Box]:
    """Draw the whole photo in a box, and outline what the network sees of it; give where both lie."""
    height, width = look.photo.shape[:2]
    place = box.holding(width, height)
    page.image(look.photo, place, interpolation="antialiased")
    frame = look.frame
    outline = place.part(frame.left / width, frame.top / height, frame.width / width, frame.height / height)
    draw_outline(page, outline, 1.6, "white", "#222222")
    return place, outline


def draw_heat(page: Page, look: Look, heat: HeatLook, box: Box) -> None:
    """Draw a heat map over the picture in grey, which shows through, with every region outlined."""
    grey = look.pixels @ np.array(_GREY)
    page.image(grey, box, cmap="gray", vmin=0, vmax=255)
    page.image(heat_shares(heat), box, cmap=_see_through(), interpolation="nearest")
    draw_regions(page, look, box)


def draw_tokens(page: Page, look: Look, tokens: TokensLook, box: Box) -> None:
    """Draw which patches are left: dropped ones dark, those that share a token veiled and outlined as one."""
    draw_seen(page, look, box)
    # Nearest: the shade ends exactly where a patch does.
    page.image(shades(tokens), box, interpolation="nearest")
    borders = group_borders(tokens.owner, box)
    page.lines(borders, colors="#222222", alpha=0.35, lw=1.3)
    page.lines(borders, colors="white", alpha=0.9, lw=0.5)
    draw_regions(page, look, box)


def draw_regions(page: Page, look: Look, box: Box, width: float = 2.6) -> None:
    """Outline every region that some stage has chosen."""
    for _, region in look.traces(BoxLook):
        draw_outline(page, region_box(region, box), width, REGION)


def draw_choice(page: Page, look: Look, box: Box) -> str:
    """Draw what the standing answer rests on, and say it in a few words."""
    stage = look.stages[look.answered]
    tokens = [trace for trace in stage.traces if isinstance(trace, TokensLook)]
    heats = [trace for trace in stage.traces if isinstance(trace, HeatLook)]
    if tokens:
        draw_tokens(page, look, tokens[-1], box)
        return count_tokens(tokens[-1])
    if heats:
        draw_heat(page, look, heats[-1], box)
        return f"attention after {stage.name}"
    draw_seen(page, look, box)
    draw_regions(page, look, box)
    return f"all of {look.pixels.shape[0]} x {look.pixels.shape[1]} px"


def count_tokens(tokens: TokensLook) -> str:
    """How many tokens patches belong to, in a few words."""
    patches, shared = tokens.owner.size, int(tokens.shared.sum())
    if not shared:
        return f"{tokens.kept} of {patches} patches kept"
    alone = tokens.kept - shared
    dropped = f", {patches - tokens.kept} dropped" if tokens.kept < patches else ""
    single = f"{alone} patches and " if alone else ""
    return f"{tokens.tokens} tokens: {single}{tokens.tokens - alone} groups{dropped}"


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


def _see_through() -> LinearSegmentedColormap:
    """The heat map's colours, more opaque where there is more."""
    from matplotlib import colormaps

    colours = colormaps[HEAT](np.linspace(0, 1, 256))
    # The photo shows through everywhere.
    colours[:, 3] = np.linspace(0.30, 0.72, 256)
    return LinearSegmentedColormap.from_list("heat", colours)
