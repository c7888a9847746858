"""The pictures of many photos as files: one for each photo, of one network or of several, and contact sheets."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from matplotlib.figure import Figure

from lfvit_cli.figures.bars import answers_height, draw_answers, draw_cost
from lfvit_cli.figures.page import Box, Page, fitted, page, width
from lfvit_cli.figures.panels import (
    CAPTION,
    GAP,
    MARGIN,
    draw_foot,
    draw_header,
    draw_panel,
    foot_height,
    footnotes,
)
from lfvit_cli.figures.regions import draw_choice, draw_heat, draw_photo, draw_seen, draw_tokens
from lfvit_cli.figures.style import INK, MUTED, colour, render
from lfvit_cli.figures.verdicts import gmacs, mark, probability, spent
from lfvit_cli.looks.look import Look

SHEET = "contact-sheet"
# File systems end at 255 bytes, of which the ending of a temporary file takes some.
_LONGEST_NAME = 180

WIDTH = 11.4  # inches
_ROOM = WIDTH - 2 * MARGIN

# Contact sheets.
COLUMNS, ROWS = 6, 7
PHOTOS_A_SHEET = COLUMNS * ROWS
_SIDE = (_ROOM - (COLUMNS - 1) * GAP) / COLUMNS
_HEADER, _TEXT = 0.65, 0.55
_LINE, _KEYS = 0.4, 4  # of the key: a line's height, and how many decisions stand in it
_BADGE = 0.27
_SMALL = 8.5

# Comparisons.
_CARDS = 4
_CARD = (_ROOM - (_CARDS - 1) * GAP) / _CARDS
_CARD_HEADER, _NOTE, _COST = 1.6, 0.4, 0.75


@dataclass(frozen=True)
class PictureFile:
    """A picture, drawn.

    Attributes:
        name: of its file; no two of a gallery are the same.
        content: of its file.
        looks: what it shows; empty for a contact sheet, whose photos have pictures of their own.
    """

    name: str
    content: bytes
    looks: Sequence[Look] = ()


def gallery(seen: Iterable[Sequence[Look]], file_format: Literal["png", "svg", "pdf"]) -> Iterator[PictureFile]:
    """Draw photo by photo: one network's look as a panel, several networks' side by side.

    Several photos of one network get contact sheets as well.

    Args:
        seen: for each photo the looks of the same networks.
        file_format: of the files.
    """
    taken: set[str] = set()
    waiting: list[Look] = []
    for looks in seen:
        single = len(looks) == 1
        figure = draw_panel(looks[0]) if single else draw_comparison(looks)
        name = f"{_unused(looks[0].image.stem, taken)}.{file_format}"
        yield PictureFile(name, render(figure, file_format), looks)
        if single:
            waiting.append(looks[0])
        if len(waiting) == PHOTOS_A_SHEET:
            yield PictureFile(f"{_unused(SHEET, taken)}.{file_format}", render(draw_sheet(waiting), file_format))
            waiting.clear()
    # A single photo needs no sheet.
    if waiting and len(taken) > 1:
        yield PictureFile(f"{_unused(SHEET, taken)}.{file_format}", render(draw_sheet(waiting), file_format))


def _unused(stem: str, taken: set[str]) -> str:
    """The stem, numbered where it is taken, and taken from now on."""
    short = stem.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore") or "photo"
    names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
    # Some file systems do not tell capitals from small letters.
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def draw_comparison(looks: Sequence[Look]) -> Figure:
    """Draw what several networks saw in one photo, and decided.

    Args:
        looks: at least one, all at the same photo.
    """
    answers = max(map(answers_height, looks))
    row_height = CAPTION + _CARD + _NOTE + answers + _COST
    rows = math.ceil(len(looks) / _CARDS)
    most = max(look.most_macs for look in looks)
    notes = footnotes(*looks)
    with page(WIDTH, _CARD_HEADER + rows * row_height + foot_height(notes)) as sheet:
        photo = Box(MARGIN + (_CARDS - 1) * (_CARD + GAP), 0.2, _CARD, _CARD_HEADER - 0.4)
        draw_header(sheet, _votes(looks), looks[0], room=photo.left - GAP - MARGIN, verdict=False)
        draw_photo(sheet, looks[0], photo)
        for place, look in enumerate(looks):
            row, column = divmod(place, _CARDS)
            top = _CARD_HEADER + CAPTION + row * row_height
            _draw_card(sheet, look, Box(MARGIN + column * (_CARD + GAP), top, _CARD, _CARD), answers, most)
        draw_foot(sheet, notes)
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


def _votes(looks: Sequence[Look]) -> str:
    labelled = [look for look in looks if look.label is not None]
    if labelled:
        known = " that know its class" if len(labelled) < len(looks) else ""
        return f"Right: {sum(bool(look.right) for look in labelled)} of {len(labelled)} networks{known}"
    votes = Counter(look.answer.name for look in looks).most_common()
    return f"{len(looks)} networks answer " + ", ".join(
        f"{name} ({times})" if len(votes) > 1 else name for name, times in votes
    )


class Decision(NamedTuple):
    """How an answer came about: its letter and colour in the sheet, and what they mean."""

    letter: str
    colour: str
    meaning: str


def decision(look: Look) -> Decision:
    """How the answer of a look came about: by the stage's initial, or its number where stages share an initial."""
    stage = look.stages[look.answered].name
    if look.harmed:
        return Decision("✗", INK, f"{stage} spoiled a right answer")
    initials = {each.name[0].upper() for each in look.stages}
    letter = stage[0].upper() if len(initials) == len(look.stages) else str(look.answered + 1)
    meaning = f"answered after {stage}" if look.exited else f"went on to {stage}"
    return Decision(letter, colour(look.answered), meaning)


def draw_sheet(looks: Sequence[Look]) -> Figure:
    """Draw one network's looks at many photos.

    Args:
        looks: at least one, at most ``PHOTOS_A_SHEET``, of one network.
    """
    rows = math.ceil(len(looks) / COLUMNS)
    notes = footnotes(looks[0])
    decisions = Counter(map(decision, sorted(looks, key=lambda look: (look.harmed, look.answered))))
    known = list(decisions.items()) if len(looks[0].stages) > 1 else []
    lines = [known[start : start + _KEYS] for start in range(0, len(known), _KEYS)]
    header = _HEADER + _LINE * len(lines)
    with page(WIDTH, header + rows * (_SIDE + _TEXT) + foot_height(notes)) as sheet:
        _draw_summary(sheet, looks)
        for place, line in enumerate(lines):
            _draw_key(sheet, line, _HEADER - 0.09 + _LINE * place)
        for place, look in enumerate(looks):
            row, column = divmod(place, COLUMNS)
            box = Box(MARGIN + column * (_SIDE + GAP), header + row * (_SIDE + _TEXT), _SIDE, _SIDE)
            _draw_small(sheet, look, box)
        draw_foot(sheet, notes)
    return sheet.figure


def _draw_summary(sheet: Page, looks: Sequence[Look]) -> None:
    """The head of a sheet: what the photos cost, by which network under which policy."""
    first = looks[0]
    policy = "" if first.policy is None else f", exit at {first.policy}"
    macs = gmacs(sum(look.macs for look in looks) / len(looks))
    title = f"{len(looks)} photos, {macs} GMACs each on average"
    sheet.text(MARGIN, 0.34, title, 15, room=sheet.width / 2, weight="bold")
    about = f"{first.model}{policy}"
    sheet.text(sheet.width - MARGIN, 0.34, about, 10, room=sheet.width / 2 - 0.5, align="right", colour=MUTED)


def _draw_key(sheet: Page, decisions: Sequence[tuple[Decision, int]], top: float) -> None:
    """One line of the key: how answers came about, and how many did."""
    left, room = MARGIN, _ROOM / len(decisions) - _BADGE - 0.43
    for each, times in decisions:
        _draw_badge(sheet, left, top, each)
        counted = f": {times}"
        text = fitted(each.meaning, room - width(counted, 10), 10) + counted
        sheet.text(left + _BADGE + 0.08, top + _BADGE / 2, text, 10)
        left += _BADGE + 0.08 + width(text, 10) + 0.35


def _draw_small(sheet: Page, look: Look, box: Box) -> None:
    """One photo of a sheet: where the network looked, how and what it answered, and the file."""
    _draw_trace(sheet, look, box)
    how = decision(look)
    if len(look.stages) > 1:
        sheet.rectangle(box, fill=False, ec=how.colour, lw=3.5, joinstyle="miter", zorder=4)
        _draw_badge(sheet, box.left, box.top, how)
    sure = f" {probability(look.answer.probability)} {mark(look, look.answer)}".rstrip()
    said = fitted(look.answer.name, _SIDE - width(sure, 9, "bold"), 9, "bold") + sure
    sheet.text(box.left, box.bottom + 0.15, said, 9, weight="bold")
    sheet.text(box.left, box.bottom + 0.34, _file(look, _SIDE), _SMALL, colour=MUTED)


def _draw_trace(sheet: Page, look: Look, box: Box) -> None:
    """What tells most at a small size: regions, or the tokens that are left, or a heat map."""
    regions = [region for stage in look.stages for region in stage.boxes]
    tokens = [trace for stage in look.stages for trace in stage.tokens]
    heats = [trace for stage in look.stages for trace in stage.heats]
    if regions or not (tokens or heats):
        draw_seen(sheet, look, box, regions, 1.6)
    elif tokens:
        draw_tokens(sheet, look, tokens[-1], box)
    else:
        draw_heat(sheet, look, heats[-1], box)


def _file(look: Look, room: float) -> str:
    """The file's name, and before it the class that a wrong answer missed."""
    missed = "" if look.right is not False else fitted(f"is {look.label_name} ·", 0.6 * room, _SMALL) + " "
    return missed + fitted(look.image.name, room - width(missed, _SMALL), _SMALL, keep_end=True)


def _draw_badge(sheet: Page, left: float, top: float, how: Decision) -> None:
    sheet.rectangle(Box(left, top, _BADGE, _BADGE), fc=how.colour, ec="none", zorder=5)
    middle = top + _BADGE / 2
    sheet.text(left + _BADGE / 2, middle, how.letter, 10, align="center", weight="bold", colour="white", zorder=6)
