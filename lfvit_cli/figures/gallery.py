"""The pictures of many photos as files: one for each photo, and contact sheets of them all."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lfvit_cli.figures.compare import draw_comparison
from lfvit_cli.figures.panels import draw_panel
from lfvit_cli.figures.sheet import PHOTOS_A_SHEET, draw_sheet
from lfvit_cli.figures.style import render
from lfvit_cli.looks.look import Look

SHEET = "contact-sheet"
# File systems end at 255 bytes, of which the ending of a temporary file takes some.
_LONGEST_NAME = 180


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
