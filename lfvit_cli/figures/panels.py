"""One photo and one network on one page: what it saw, where it looked, what it answered, what that cost."""

import math
from pathlib import Path

from matplotlib.figure import Figure

from lfvit_cli.figures.bars import answers_height, draw_answers, draw_cost, name_costs
from lfvit_cli.figures.page import Box, Page, page
from lfvit_cli.figures.regions import (
    attention_shares,
    draw_attention,
    draw_focus,
    draw_photo,
    draw_pruning,
    draw_seen,
    heat_colours,
)
from lfvit_cli.figures.style import INK, MUTED, colour
from lfvit_cli.figures.verdicts import effect, mark, spent, title
from lfvit_cli.measure.looks import Look, RegionLook

MARGIN, GAP, ROW_GAP = 0.25, 0.2, 0.35
# In pixels of the PNG a multiple of the patches a side of the usual grid.
PICTURE = 3.5
WIDTH = 3 * PICTURE + 2 * GAP + 2 * MARGIN
HEADER, CAPTION, NOTE = 0.95, 0.3, 0.55
NOTE_MIDDLE = 0.18
_A_ROW = 4


def draw_panel(look: Look) -> Figure:
    """Draw what one network saw in one photo, and decided."""
    if look.region is not None:
        return _region_panel(look, look.region)
    if look.prunings:
        return _pruning_panel(look)
    return _plain_panel(look)


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


def _region_panel(look: Look, region: RegionLook) -> Figure:
    bottom = HEADER + CAPTION + PICTURE
    answers = bottom + NOTE
    with page(WIDTH, answers + answers_height(look) + footer_height(look)) as sheet:
        _draw_header(sheet, look)
        photo, location, focus = (_picture(column, 0, PICTURE) for column in range(3))
        _draw_photo(sheet, look, photo)
        draw_attention(sheet, look, region, location)
        _caption(sheet, location, "location: where the class token looks")
        _draw_scale(sheet, location, region)
        draw_focus(sheet, look, region, focus)
        skipped = "" if look.stages[-1].needed else " (not run)"
        _caption(sheet, focus, f"focus{skipped}: {region.size} x {region.size} region, refined")
        tokens = f"{len(region.fine_tokens)} fine tokens (bright) and {len(region.coarse_cells)} coarse (dimmed)"
        _note(sheet, focus, tokens)
        _draw_facts(sheet, look, photo.left, answers, PICTURE)
        for index, place in ((0, location), (len(look.stages) - 1, focus)):
            draw_answers(sheet, look, index, place.left, answers, PICTURE)
        draw_footer(sheet, look)
    return sheet.figure


def _pruning_panel(look: Look) -> Figure:
    boxes = 1 + len(look.prunings)
    columns = min(_A_ROW, boxes)
    side = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    rows = math.ceil(boxes / columns)
    answers = HEADER + rows * (CAPTION + side) + (rows - 1) * ROW_GAP + NOTE
    with page(WIDTH, answers + answers_height(look) + footer_height(look)) as sheet:
        _draw_header(sheet, look)
        first, *others = (_picture(place % columns, place // columns, side) for place in range(boxes))
        _draw_photo(sheet, look, first)
        for number, (pruning, box) in enumerate(zip(look.prunings, others, strict=True), start=1):
            draw_pruning(sheet, look, pruning, box)
            _caption(sheet, box, f"pruning {number}: {len(pruning.kept)} of {pruning.grid**2} kept")
        _draw_facts(sheet, look, MARGIN, answers, PICTURE)
        draw_answers(sheet, look, 0, MARGIN + PICTURE + GAP, answers, 1.4 * PICTURE)
        draw_footer(sheet, look)
    return sheet.figure


def _plain_panel(look: Look) -> Figure:
    answers = HEADER + CAPTION
    with page(WIDTH, answers + PICTURE + NOTE + footer_height(look)) as sheet:
        _draw_header(sheet, look)
        photo, seen, third = (_picture(column, 0, PICTURE) for column in range(3))
        _draw_photo(sheet, look, photo)
        draw_seen(sheet, look, seen)
        _caption(sheet, seen, f"what the network sees: {look.pixels.shape[0]} x {look.pixels.shape[1]} pixels")
        top = answers
        for index in range(len(look.stages)):
            draw_answers(sheet, look, index, third.left, top, PICTURE)
            top += answers_height(look) + 0.1
        _draw_facts(sheet, look, third.left, top + 0.1, PICTURE)
        draw_footer(sheet, look)
    return sheet.figure


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
        draw_cost(sheet, look, left, top + 0.34, width)
        name_costs(sheet, look, left, top + 0.66, width)
        first_fact = top + 1.0
    weights = "random weights" if look.checkpoint is None else Path(look.checkpoint).name
    for line, fact in enumerate(filter(None, (look.model, weights, effect(look)))):
        sheet.text(left, first_fact + 0.24 * line, fact, 9.5, room=width, colour=MUTED, keep_end=True)


def _caption(sheet: Page, box: Box, text: str) -> None:
    sheet.text(box.left, box.top - 0.13, text, 10, room=box.width, weight="bold")


def _note(sheet: Page, box: Box, text: str) -> None:
    sheet.text(box.left, box.bottom + NOTE_MIDDLE, text, 9, room=box.width, colour=MUTED)


def _draw_scale(sheet: Page, box: Box, region: RegionLook) -> None:
    """The heat map's colours below it, with what they stand for."""
    shares = attention_shares(region)
    words, least, most = "attention per cell", f"{shares.min():.1f} %", f"{shares.max():.1f} %"
    _note(sheet, box, words)
    gap, middle = 0.08, box.bottom + NOTE_MIDDLE
    left = box.left + sheet.width_of(words, 9) + 2 * gap
    sheet.text(left, middle, least, 9, colour=MUTED)
    left += sheet.width_of(least, 9) + gap
    right = box.right - sheet.width_of(most, 9) - gap
    sheet.image(heat_colours(), Box(left, middle - 0.065, right - left, 0.13))
    sheet.text(box.right, middle, most, 9, room=1.0, align="right", colour=MUTED)
