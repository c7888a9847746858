"""One photo and one network on one page: what it saw, where it looked, what it answered, what that cost."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from lfvit_cli.figures.bars import answers_height, draw_answers, draw_cost, name_costs
from lfvit_cli.figures.page import Box, Page, page
from lfvit_cli.figures.regions import (
    count_tokens,
    draw_heat,
    draw_photo,
    draw_regions,
    draw_seen,
    draw_tokens,
    heat_colours,
    heat_shares,
)
from lfvit_cli.figures.style import INK, MUTED, colour
from lfvit_cli.figures.verdicts import effect, mark, spent, title
from lfvit_cli.looks.look import HeatLook, Look, StageLook, TokensLook

MARGIN, GAP, ROW_GAP = 0.25, 0.2, 0.35
# In pixels of the PNG a multiple of the patches a side of the usual grid.
PICTURE = 3.5
COLUMNS = 3
WIDTH = COLUMNS * PICTURE + (COLUMNS - 1) * GAP + 2 * MARGIN
HEADER, CAPTION, NOTE = 0.95, 0.3, 0.55
NOTE_MIDDLE = 0.18
_A_ROW = 4
# Beside the photo at most so many pictures of each kind.
MOST_HEATS, MOST_TOKENS = 2, 4
FACTS = 1.75  # inches: cost and four lines


class View(NamedTuple):
    """One picture of a panel.

    Attributes:
        caption: above it.
        note: below it.
        draw: draws it into a box.
        heat: where it is a heat map, which then has a scale below it.
    """

    caption: str
    note: str
    draw: Callable[[Page, Box], object]
    heat: HeatLook | None = None


def draw_panel(look: Look) -> Figure:
    """Draw what one network saw in one photo, and decided: the photo, its traces, its answers and its cost."""
    shown = [None, *views(look)]
    columns = COLUMNS if len(shown) <= COLUMNS else _A_ROW
    side = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    rows = math.ceil(len(shown) / columns)
    answers = HEADER + rows * (CAPTION + side) + (rows - 1) * ROW_GAP + NOTE
    slots = min(_A_ROW, 1 + len(look.stages)) if len(look.stages) > 1 else COLUMNS
    room = (WIDTH - 2 * MARGIN - (slots - 1) * GAP) / slots
    lines = math.ceil((1 + len(look.stages)) / slots)
    line_height = max(answers_height(look), FACTS) + 0.15
    with page(WIDTH, answers + lines * line_height + footer_height(look)) as sheet:
        _draw_header(sheet, look)
        for place, view in enumerate(shown):
            box = _picture(place % columns, place // columns, side)
            if view is None:
                _draw_photo(sheet, look, box)
            else:
                _draw_view(sheet, view, box)
        _draw_facts(sheet, look, MARGIN, answers, room)
        for index in range(len(look.stages)):
            line, column = divmod(index + 1, slots)
            left = MARGIN + column * (room + GAP)
            draw_answers(sheet, look, index, left, answers + line * line_height, room)
        draw_footer(sheet, look)
    return sheet.figure


def views(look: Look) -> list[View]:
    """The pictures of what a network saw, beside the photo: of its traces, or of the pixels alone."""
    heats = [_heat_view(look, stage, heat) for stage, heat in look.traces(HeatLook)]
    tokens = look.traces(TokensLook)
    if len(tokens) > MOST_TOKENS:
        # The first, the last, and some between.
        chosen = sorted({round(place * (len(tokens) - 1) / (MOST_TOKENS - 1)) for place in range(MOST_TOKENS)})
        tokens = [tokens[place] for place in chosen]
    found = heats[:MOST_HEATS] + [_tokens_view(look, stage, trace) for stage, trace in tokens]
    if found:
        return found
    height, width = look.pixels.shape[:2]
    caption = f"what the network sees: {height} x {width} pixels"
    return [View(caption, "", lambda sheet, box: _draw_seen_with_regions(sheet, look, box))]


def _heat_view(look: Look, stage: StageLook, heat: HeatLook) -> View:
    caption = f"{_named(look, stage)}{heat.name}{_skipped(stage)}"
    return View(caption, "", lambda sheet, box: draw_heat(sheet, look, heat, box), heat)


def _tokens_view(look: Look, stage: StageLook, tokens: TokensLook) -> View:
    caption = f"{_named(look, stage)}{tokens.name}" if tokens.name not in ("", stage.name) else stage.name
    note = count_tokens(tokens)
    return View(f"{caption}{_skipped(stage)}", note, lambda sheet, box: draw_tokens(sheet, look, tokens, box))


def _named(look: Look, stage: StageLook) -> str:
    return f"{stage.name}: " if len(look.stages) > 1 else ""


def _skipped(stage: StageLook) -> str:
    return "" if stage.needed else " (not run)"


def _draw_seen_with_regions(sheet: Page, look: Look, box: Box) -> None:
    draw_seen(sheet, look, box)
    draw_regions(sheet, look, box)


def _draw_view(sheet: Page, view: View, box: Box) -> None:
    view.draw(sheet, box)
    _caption(sheet, box, view.caption)
    if view.heat is not None:
        _draw_scale(sheet, box, view.heat)
    elif view.note:
        _note(sheet, box, view.note)


def draw_header(sheet: Page, heading: str, look: Look, *, room: float, verdict: bool = True) -> None:
    """Write a heading, and below it the photo's file and class, with or without whether the answer is right."""
    sheet.text(MARGIN, 0.34, heading, 15, room=room, weight="bold")
    written = sheet.text(MARGIN, 0.68, look.image.name, 10, room=0.6 * room, colour=MUTED, keep_end=True)
    if look.label_name is not None:
        label = f"class {look.label_name}"
        if verdict:
            label += f": answer {'right' if look.right else 'wrong'} {mark(look, look.answer)}"
        left = MARGIN + sheet.width_of(written, 10) + 0.25
        sheet.text(left, 0.68, label, 10, room=MARGIN + room - left, colour=INK)


def footer_height(*looks: Look) -> float:
    """How high the foot of a page is, in inches: a margin, or a warning."""
    return 0.2 if all(look.checkpoint for look in looks) else 0.5


def draw_footer(sheet: Page, *looks: Look) -> None:
    """Write a warning at the foot of a page where the weights of a network are random."""
    untrained = dict.fromkeys(look.model for look in looks if look.checkpoint is None)
    if untrained:
        text = f"Untrained weights: what {', '.join(untrained)} looks at and answers is arbitrary."
        sheet.text(
            MARGIN, sheet.height - 0.27, text, 10, room=sheet.width - 2 * MARGIN, weight="bold", colour=colour(1)
        )


def _picture(column: int, row: int, side: float) -> Box:
    """Where a picture goes on a panel; its caption stands above."""
    return Box(MARGIN + column * (side + GAP), HEADER + CAPTION + row * (CAPTION + side + ROW_GAP), side, side)


def _draw_header(sheet: Page, look: Look) -> None:
    room = sheet.width - 2 * MARGIN
    draw_header(sheet, title(look, room, 15), look, room=room)


def _draw_photo(sheet: Page, look: Look, box: Box) -> None:
    place, _ = draw_photo(sheet, look, box)
    side = look.pixels.shape[0]
    _caption(sheet, box, "the photo")
    _note(sheet, box._replace(height=place.height), f"outlined: the part seen, {side} x {side} px")


def _draw_facts(sheet: Page, look: Look, left: float, top: float, width: float) -> None:
    sheet.text(left, top + 0.1, spent(look), 10, room=width, weight="bold")
    first_fact = top + 0.36
    if len(look.stages) > 1:
        draw_cost(sheet, look, left, top + 0.26, width)
        name_costs(sheet, look, left, top + 0.58, width)
        first_fact = top + 0.86
    weights = "random weights" if look.checkpoint is None else Path(look.checkpoint).name
    for line, fact in enumerate(filter(None, (look.model, weights, look.knows, effect(look)))):
        # Of names the ends tell most.
        keep_end = fact in (look.model, weights)
        sheet.text(left, first_fact + 0.24 * line, fact, 9.5, room=width, colour=MUTED, keep_end=keep_end)


def _caption(sheet: Page, box: Box, text: str) -> None:
    sheet.text(box.left, box.top - 0.13, text, 10, room=box.width, weight="bold")


def _note(sheet: Page, box: Box, text: str) -> None:
    sheet.text(box.left, box.bottom + NOTE_MIDDLE, text, 9, room=box.width, colour=MUTED)


def _draw_scale(sheet: Page, box: Box, heat: HeatLook) -> None:
    """The heat map's colours below it, with what they stand for."""
    shares = heat_shares(heat)
    words, least, most = "share per cell", f"{shares.min():.1f} %", f"{shares.max():.1f} %"
    _note(sheet, box, words)
    gap, middle = 0.08, box.bottom + NOTE_MIDDLE
    left = box.left + sheet.width_of(words, 9) + 2 * gap
    sheet.text(left, middle, least, 9, colour=MUTED)
    left += sheet.width_of(least, 9) + gap
    right = box.right - sheet.width_of(most, 9) - gap
    sheet.image(heat_colours(), Box(left, middle - 0.065, right - left, 0.13))
    sheet.text(box.right, middle, most, 9, room=1.0, align="right", colour=MUTED)
