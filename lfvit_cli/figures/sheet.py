"""A contact sheet: many photos at a glance, each with where the network looked and which stage answered."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from lfvit_cli.figures.page import Box, Page, page
from lfvit_cli.figures.panels import MARGIN, WIDTH, draw_footer, footer_height
from lfvit_cli.figures.regions import draw_regions, draw_seen, draw_tokens
from lfvit_cli.figures.style import MUTED, colour
from lfvit_cli.figures.texts import fitted, width
from lfvit_cli.figures.verdicts import gmacs, mark, probability
from lfvit_cli.looks.look import Look, TokensLook

COLUMNS, ROWS = 6, 7
PHOTOS_A_SHEET = COLUMNS * ROWS
_GAP = 0.2
_SIDE = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * _GAP) / COLUMNS
_HEADER, _TEXT = 1.05, 0.55
_BADGE = 0.27
_SMALL = 8.5


class Decision(NamedTuple):
    """How an answer came about: its letter and colour in the sheet, and what they mean."""

    letter: str
    colour: str
    meaning: str


def decision(look: Look) -> Decision:
    """How the answer of a look came about."""
    if look.harmed:
        return Decision("H", colour(3), f"{look.stages[look.answered].name} spoiled a right answer")
    stage = look.stages[look.answered].name
    meaning = f"answered after {stage}" if look.exited else f"went on to {stage}"
    if len(look.stages) == 1:
        meaning = "answered"
    return Decision(stage[0].upper(), colour(look.answered), meaning)


def draw_sheet(looks: Sequence[Look]) -> Figure:
    """Draw one network's looks at many photos.

    Args:
        looks: at least one, at most ``PHOTOS_A_SHEET``, of one network.
    """
    rows = math.ceil(len(looks) / COLUMNS)
    with page(WIDTH, _HEADER + rows * (_SIDE + _TEXT) + footer_height(looks[0])) as sheet:
        _draw_header(sheet, looks)
        for place, look in enumerate(looks):
            left = MARGIN + place % COLUMNS * (_SIDE + _GAP)
            _draw_look(sheet, look, Box(left, _HEADER + place // COLUMNS * (_SIDE + _TEXT), _SIDE, _SIDE))
        draw_footer(sheet, looks[0])
    return sheet.figure


def _draw_header(sheet: Page, looks: Sequence[Look]) -> None:
    first = looks[0]
    policy = "" if first.policy is None else f", exit at {first.policy}"
    macs = gmacs(sum(look.macs for look in looks) / len(looks))
    title = f"{len(looks)} photos, {macs} GMACs each on average"
    sheet.text(MARGIN, 0.34, title, 15, room=sheet.width / 2, weight="bold")
    about = f"{first.model}{policy}"
    sheet.text(sheet.width - MARGIN, 0.34, about, 10, room=sheet.width / 2 - 0.5, align="right", colour=MUTED)
    left = MARGIN
    for each, times in Counter(map(decision, looks)).most_common():
        _draw_badge(sheet, left, 0.56, each)
        text = f"{each.meaning}: {times}"
        sheet.text(left + _BADGE + 0.08, 0.56 + _BADGE / 2, text, 10)
        left += _BADGE + 0.08 + width(text, 10) + 0.35


def _draw_look(sheet: Page, look: Look, box: Box) -> None:
    draw_seen(sheet, look, box)
    tokens = look.traces(TokensLook)
    if tokens and (tokens[-1][1].owner < 0).any():
        draw_tokens(sheet, look, tokens[-1][1], box)
    else:
        draw_regions(sheet, look, box, 1.6)
    how = decision(look)
    sheet.rectangle(box, fill=False, ec=how.colour, lw=3.5, joinstyle="miter")
    _draw_badge(sheet, box.left, box.top, how)
    sure = f" {probability(look.answer.probability)} {mark(look, look.answer)}".rstrip()
    said = fitted(look.answer.name, _SIDE - width(sure, 9, "bold"), 9, "bold") + sure
    sheet.text(box.left, box.bottom + 0.15, said, 9, weight="bold")
    sheet.text(box.left, box.bottom + 0.34, _file(look, _SIDE), _SMALL, colour=MUTED)


def _file(look: Look, room: float) -> str:
    """The file's name, and before it the class that a wrong answer missed."""
    missed = "" if look.right is not False else fitted(f"is {look.label_name} ·", 0.6 * room, _SMALL) + " "
    return missed + fitted(look.image.name, room - width(missed, _SMALL), _SMALL, keep_end=True)


def _draw_badge(sheet: Page, left: float, top: float, how: Decision) -> None:
    sheet.rectangle(Box(left, top, _BADGE, _BADGE), fc=how.colour, ec="none", zorder=5)
    middle = top + _BADGE / 2
    sheet.text(left + _BADGE / 2, middle, how.letter, 10, align="center", weight="bold", colour="white", zorder=6)
