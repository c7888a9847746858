"""Several networks' choices for one photo on one page."""

import math
from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from lfvit_cli.figures.bars import answers_height, draw_answers, draw_cost
from lfvit_cli.figures.page import Box, Page, page
from lfvit_cli.figures.panels import CAPTION, GAP, MARGIN, WIDTH, draw_footer, draw_header, footer_height
from lfvit_cli.figures.regions import draw_choice, draw_photo
from lfvit_cli.figures.style import MUTED
from lfvit_cli.figures.verdicts import spent
from lfvit_cli.looks.look import Look

_COLUMNS = 4
_SIDE = (WIDTH - 2 * MARGIN - (_COLUMNS - 1) * GAP) / _COLUMNS
_HEADER, _NOTE, _COST = 1.6, 0.4, 0.75


def draw_comparison(looks: Sequence[Look]) -> Figure:
    """Draw what several networks saw in one photo, and decided.

    Args:
        looks: at least one, all at the same photo.
    """
    answers = max(map(answers_height, looks))
    row_height = CAPTION + _SIDE + _NOTE + answers + _COST
    rows = math.ceil(len(looks) / _COLUMNS)
    most = max(look.most_macs for look in looks)
    with page(WIDTH, _HEADER + rows * row_height + footer_height(*looks)) as sheet:
        photo = Box(MARGIN + (_COLUMNS - 1) * (_SIDE + GAP), 0.2, _SIDE, _HEADER - 0.4)
        draw_header(sheet, _title(looks), looks[0], room=photo.left - GAP - MARGIN, verdict=False)
        draw_photo(sheet, looks[0], photo)
        for place, look in enumerate(looks):
            left, row = MARGIN + place % _COLUMNS * (_SIDE + GAP), place // _COLUMNS
            box = Box(left, _HEADER + CAPTION + row * row_height, _SIDE, _SIDE)
            _draw_card(sheet, look, box, answers, most)
        draw_footer(sheet, *looks)
    return sheet.figure


def _draw_card(sheet: Page, look: Look, box: Box, answers: float, most: int) -> None:
    """Draw one network: its choice in the box, its answer and its cost below."""
    sheet.text(box.left, box.top - 0.13, look.model, 10, room=box.width, weight="bold", keep_end=True)
    choice = draw_choice(sheet, look, box)
    sheet.text(box.left, box.bottom + 0.17, choice, 9, room=box.width, colour=MUTED)
    top = box.bottom + _NOTE
    draw_answers(sheet, look, look.answered, box.left, top, box.width)
    cost = top + answers + 0.2
    sheet.text(box.left, cost, spent(look), 9.5, room=box.width)
    draw_cost(sheet, look, box.left, cost + 0.16, box.width, most)


def _title(looks: Sequence[Look]) -> str:
    labelled = [look for look in looks if look.label is not None]
    if labelled:
        return f"{sum(bool(look.right) for look in labelled)} of {len(labelled)} networks answer right"
    votes = Counter(look.answer.name for look in looks).most_common()
    return f"{len(looks)} networks answer " + ", ".join(
        f"{name} ({times})" if len(votes) > 1 else name for name, times in votes
    )
