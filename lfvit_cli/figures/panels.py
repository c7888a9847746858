"""One photo and one network on one page: what it saw, where it looked, what it answered, what that cost."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from matplotlib.figure import Figure

from lfvit_cli.figures.bars import answers_height, draw_answers, draw_cost
from lfvit_cli.figures.page import Box, Page, Weight, fitted, page, width
from lfvit_cli.figures.regions import (
    Scale,
    count_tokens,
    draw_heat,
    draw_photo,
    draw_seen,
    draw_tokens,
    heat_colours,
    heat_scale,
    regions_around,
)
from lfvit_cli.figures.style import INK, MUTED, colour
from lfvit_cli.figures.verdicts import effect, gmacs, mark, spent, title
from lfvit_cli.looks.look import BoxLook, Look, StageLook, TokensLook

T = TypeVar("T")
Drawing = Callable[[Page, Box], object]

MARGIN, GAP, ROW_GAP = 0.25, 0.2, 0.35
# The side of a picture by how many stand in a row, in inches: in the PNG, a multiple of the usual 14 patches.
SIDES = {2: 4.55, 3: 3.5, 4: 3.15, 5: 3.0625}
HEADER, CAPTION, NOTE = 0.95, 0.3, 0.55
NOTE_MIDDLE, LINE = 0.18, 0.24
# Of one stage at most so many pictures of each kind; what is not drawn is named at the foot.
MOST_HEATS, MOST_TOKENS = 2, 4
_COST_TOP, _COST_BOTTOM = 0.26, 0.46
_SWATCH = 0.12


class View(NamedTuple):
    """One picture of a panel.

    Attributes:
        caption: above it.
        draw: draws it into a box.
        note: below it.
        scale: of a heat map, in place of the note.
        skipped: whether the early exit spared what it shows.
    """

    caption: str
    draw: Drawing
    note: str = ""
    scale: Scale | None = None
    skipped: bool = False


class Footnote(NamedTuple):
    """A line at the foot of a page; a warning stands out."""

    text: str
    warns: bool = False


def draw_panel(look: Look) -> Figure:
    """Draw what one network saw in one photo, and decided: the photo, its traces, its answers and its cost."""
    shown, cells = [None, *views(look)], 1 + len(look.stages)
    columns = max(_columns(len(shown)), _columns(cells))
    side = SIDES[columns]
    answers = HEADER + math.ceil(len(shown) / columns) * (CAPTION + side + ROW_GAP) - ROW_GAP + NOTE
    cell_height = max(answers_height(look), _facts_height(look, side)) + 0.15
    notes = [*_not_drawn(look), *footnotes(look)]
    height = answers + math.ceil(cells / columns) * cell_height + foot_height(notes)
    with page(columns * (side + GAP) - GAP + 2 * MARGIN, height) as sheet:
        room = sheet.width - 2 * MARGIN
        draw_header(sheet, title(look, room, 15), look, room=room)
        for place, view in enumerate(shown):
            row, column = divmod(place, columns)
            top = HEADER + CAPTION + row * (CAPTION + side + ROW_GAP)
            box = Box(MARGIN + column * (side + GAP), top, side, side)
            if view is None:
                _draw_photo(sheet, look, box)
            else:
                _draw_view(sheet, view, box)
        _draw_facts(sheet, look, Box(MARGIN, answers, side, cell_height))
        # Where there are columns to spare, a single stage's answers have two.
        across = 2 * side + GAP if cells == 2 and columns > 3 else side
        for index in range(len(look.stages)):
            row, column = divmod(index + 1, columns)
            draw_answers(sheet, look, index, MARGIN + column * (side + GAP), answers + row * cell_height, across)
        draw_foot(sheet, notes)
    return sheet.figure


def _columns(count: int) -> int:
    """In how many columns so many pictures or texts fill their rows best."""
    rows = math.ceil(count / max(SIDES))
    return max(min(SIDES), math.ceil(count / rows))


def views(look: Look) -> list[View]:
    """The pictures of what a network saw, beside the photo: of its traces, or of the pixels alone."""
    found = [view for index in range(len(look.stages)) for view in _views_of(look, index)]
    if found:
        return found
    height, across = look.pixels.shape[:2]
    return [View(f"what the network sees: {height} x {across} px", lambda sheet, box: draw_seen(sheet, look, box))]


def _views_of(look: Look, index: int) -> Iterable[View]:
    """The pictures of one stage's traces."""
    stage, regions = look.stages[index], regions_around(look, index)
    for heat in _spread(stage.heats, MOST_HEATS):
        yield View(
            _caption(look, stage, heat.name),
            _drawing(draw_heat, look, heat, regions),
            scale=heat_scale(heat),
            skipped=not stage.needed,
        )
    for tokens in _spread(stage.tokens, MOST_TOKENS):
        yield View(
            _caption(look, stage, _name(tokens, stage)),
            _drawing(draw_tokens, look, tokens, regions),
            note=count_tokens(tokens),
            skipped=not stage.needed,
        )
    if stage.boxes and not (stage.heats or stage.tokens):
        yield View(
            _caption(look, stage, "region"),
            lambda sheet, box: draw_seen(sheet, look, box, regions),
            skipped=not stage.needed,
        )


def _drawing(
    draw: Callable[[Page, Look, T, Box, Sequence[BoxLook]], None], look: Look, trace: T, regions: Sequence[BoxLook]
) -> Drawing:
    return lambda sheet, box: draw(sheet, look, trace, box, regions)


def _caption(look: Look, stage: StageLook, name: str) -> str:
    return f"{stage.name}: {name}" if len(look.stages) > 1 else name


def _name(tokens: TokensLook, stage: StageLook) -> str:
    return "tokens" if tokens.name in ("", stage.name) else tokens.name


def _spread(traces: Sequence[T], most: int) -> list[T]:
    """At most so many: the first, the last, and some between."""
    if len(traces) <= most:
        return list(traces)
    return [traces[round(place * (len(traces) - 1) / (most - 1))] for place in range(most)]


def _not_drawn(look: Look) -> Iterable[Footnote]:
    """Names what there is no room for."""
    for stage in look.stages:
        heats = [heat.name for heat in stage.heats if heat not in _spread(stage.heats, MOST_HEATS)]
        tokens = [_name(each, stage) for each in stage.tokens if each not in _spread(stage.tokens, MOST_TOKENS)]
        if heats or tokens:
            yield Footnote(f"Not drawn{_of(look, stage)}: {_listed([*heats, *tokens])}.")


def _of(look: Look, stage: StageLook) -> str:
    return f" of {stage.name}" if len(look.stages) > 1 else ""


def _listed(names: Sequence[str]) -> str:
    """Such as ``layer 1, 2, 4``: a first word that all share is said once."""
    first = names[0].partition(" ")[0]
    if all(name.partition(" ")[0] == first and " " in name for name in names):
        return f"{first} {', '.join(name.partition(' ')[2] for name in names)}"
    return ", ".join(names)


def draw_header(sheet: Page, heading: str, look: Look, *, room: float, verdict: bool = True) -> None:
    """Write a heading, and below it the photo's file and class, with or without whether the answer is right."""
    sheet.text(MARGIN, 0.34, heading, 15, room=room, weight="bold")
    written = sheet.text(MARGIN, 0.68, look.image.name, 10, room=0.6 * room, colour=MUTED, keep_end=True)
    if look.label_name is not None:
        label = f"class {look.label_name}"
        if verdict:
            label += f": the answer is {'right' if look.right else 'wrong'} {mark(look, look.answer)}"
        left = MARGIN + width(written, 10) + 0.25
        sheet.text(left, 0.68, label, 10, room=MARGIN + room - left, colour=INK)


def footnotes(*looks: Look) -> list[Footnote]:
    """What a reader must know before trusting a picture of these looks, each thing once."""
    known = dict.fromkeys(f"{look.model} {look.knows}." for look in looks if look.knows)
    random = dict.fromkeys(look.model for look in looks if look.checkpoint is None)
    warning = f"Untrained weights: what {', '.join(random)} looks at and answers is arbitrary."
    return [*map(Footnote, known), *([Footnote(warning, warns=True)] if random else [])]


def foot_height(notes: Sequence[Footnote]) -> float:
    """How high the foot of a page is, in inches."""
    return 0.2 + LINE * len(notes) + (0.1 if notes else 0.0)


def draw_foot(sheet: Page, notes: Sequence[Footnote]) -> None:
    """Write lines at the foot of a page."""
    # Fitted to their pixels, the letters of so long a line take a little more than their outlines.
    room = 0.98 * (sheet.width - 2 * MARGIN)
    for above, note in enumerate(reversed(notes)):
        middle = sheet.height - 0.27 - LINE * above
        weight: Weight = "bold" if note.warns else "normal"
        tone = colour(1) if note.warns else MUTED
        sheet.text(MARGIN, middle, note.text, 10, room=room, weight=weight, colour=tone)


def _draw_photo(sheet: Page, look: Look, box: Box) -> None:
    place, _ = draw_photo(sheet, look, box)
    height, across = look.pixels.shape[:2]
    _draw_caption(sheet, box, "the photo")
    _draw_note(sheet, box._replace(height=place.height), f"outlined: the part seen, {height} x {across} px")


def _draw_view(sheet: Page, view: View, box: Box) -> None:
    view.draw(sheet, box)
    _draw_caption(sheet, box, view.caption, " (not run)" if view.skipped else "")
    if view.scale is not None:
        _draw_scale(sheet, box, view.scale)
    elif view.note:
        _draw_note(sheet, box, view.note)


def _draw_caption(sheet: Page, box: Box, text: str, end: str = "") -> None:
    written = fitted(text, box.width - width(end, 10, "bold"), 10, "bold")
    sheet.text(box.left, box.top - 0.13, f"{written}{end}", 10, room=box.width, weight="bold")


def _draw_note(sheet: Page, box: Box, text: str) -> None:
    sheet.text(box.left, box.bottom + NOTE_MIDDLE, text, 9, room=box.width, colour=MUTED)


def _draw_scale(sheet: Page, box: Box, scale: Scale) -> None:
    """The heat map's colours below it, with what they stand for."""
    _draw_note(sheet, box, scale.words)
    if not scale.most:
        return
    gap, middle = 0.08, box.bottom + NOTE_MIDDLE
    left = box.left + width(scale.words, 9) + 2 * gap
    sheet.text(left, middle, scale.least, 9, colour=MUTED)
    left += width(scale.least, 9) + gap
    right = box.right - width(scale.most, 9) - gap
    sheet.image(heat_colours(), Box(left, middle - 0.065, right - left, 0.13))
    sheet.text(box.right, middle, scale.most, 9, room=1.0, align="right", colour=MUTED)


def _facts(look: Look) -> list[str]:
    weights = "random weights" if look.checkpoint is None else Path(look.checkpoint).name
    return [look.model, weights, *filter(None, [effect(look)])]


def _facts_height(look: Look, room: float) -> float:
    """How high :func:`_draw_facts` draws, in inches."""
    lines = len(_facts(look)) + (len(_legend(look, room)) if len(look.stages) > 1 else 0)
    return _COST_BOTTOM + 0.16 + LINE * lines


def _draw_facts(sheet: Page, look: Look, box: Box) -> None:
    """What was spent, on which stages, by which network; and what going on was good for."""
    sheet.text(box.left, box.top + 0.1, spent(look), 10, room=box.width, weight="bold")
    middle = box.top + 0.36
    if len(look.stages) > 1:
        draw_cost(sheet, look, box.left, box.top + _COST_TOP, box.width)
        middle = box.top + _COST_BOTTOM + 0.16
        for line in _legend(look, box.width):
            _draw_legend(sheet, look, line, box.left, middle, box.width)
            middle += LINE
    for place, fact in enumerate(_facts(look)):
        # Of the names of the network and of its weights, the ends tell most.
        sheet.text(box.left, middle, fact, 9.5, room=box.width, colour=MUTED, keep_end=place < 2)
        middle += LINE


def _cost_of(stage: StageLook) -> str:
    return f" {gmacs(stage.macs)}{'' if stage.needed else ' saved'}"


def _legend(look: Look, room: float) -> list[list[int]]:
    """The stages by index, in as many lines as it takes to write what each cost."""
    lines: list[list[int]] = []
    free = 0.0
    for index, stage in enumerate(look.stages):
        taken = _SWATCH + 0.06 + min(width(fitted(stage.name, room, 9) + _cost_of(stage), 9), room) + 0.15
        if not lines or taken > free:
            lines.append([])
            free = room + 0.15
        lines[-1].append(index)
        free -= taken
    return lines


def _draw_legend(sheet: Page, look: Look, line: Sequence[int], left: float, middle: float, room: float) -> None:
    """One line of the legend: the colour that a stage has everywhere, its name, its cost."""
    right = left + room
    for index in line:
        stage = look.stages[index]
        swatch = Box(left, middle - _SWATCH / 2, _SWATCH, _SWATCH)
        if stage.needed:
            sheet.rectangle(swatch, fc=colour(index), ec="none")
        else:
            sheet.rectangle(swatch, fc="white", ec=MUTED, lw=0.6, hatch="////")
        left += _SWATCH + 0.06
        cost = _cost_of(stage)
        name = fitted(stage.name, right - left - width(cost, 9), 9)
        sheet.text(left, middle, f"{name}{cost}", 9, room=right - left, colour=MUTED)
        left += width(f"{name}{cost}", 9) + 0.15
