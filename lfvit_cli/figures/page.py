"""A page measured in inches from its top left corner, on which pictures, lines and texts of any origin find room."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, NamedTuple

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from lfvit_cli.figures.style import INK, styled

Weight = Literal["normal", "bold"]
ELLIPSIS = "…"
_UNKNOWN = "□"
# Tried in turn for each character, where installed: the first has Latin, Greek, Cyrillic, Arabic and symbols.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "PingFang SC",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)


class Box(NamedTuple):
    """A rectangle on a page, in inches."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.top + self.height

    def part(self, left: float, top: float, width: float, height: float) -> "Box":
        """A rectangle inside, given in shares of this one's sides."""
        return Box(
            self.left + left * self.width, self.top + top * self.height, width * self.width, height * self.height
        )

    def holding(self, width: float, height: float) -> "Box":
        """The largest rectangle of a shape in the upper left corner of this one."""
        scale = min(self.width / width, self.height / height)
        return Box(self.left, self.top, width * scale, height * scale)


class Page:
    """What is drawn on a figure, in inches; see :func:`page`."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        # Everything has its place already.
        figure.set_layout_engine("none")
        self.width, self.height = map(float, figure.get_size_inches())
        self.axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, self.width)
        self.axes.set_ylim(self.height, 0)
        self.axes.set_autoscale_on(False)

    def image(self, values: NDArray[Any], box: Box, **style: Any) -> AxesImage:
        """Fill a box with an image or a map; the rows go down."""
        extent = (box.left, box.right, box.bottom, box.top)
        return self.axes.imshow(values, extent=extent, aspect="auto", **style)

    def rectangle(self, box: Box, **style: Any) -> Rectangle:
        """Draw a rectangle."""
        shape = Rectangle((box.left, box.top), box.width, box.height, **style)
        self.axes.add_patch(shape)
        return shape

    def lines(self, segments: Any, **style: Any) -> LineCollection:
        """Draw (n, 2, 2) straight lines, from (x, y) to (x, y)."""
        drawn = LineCollection(segments, **style)
        self.axes.add_collection(drawn, autolim=False)
        return drawn

    def text(
        self,
        left: float,
        middle: float,
        text: str,
        size: float = 10,
        *,
        room: float | None = None,
        align: Literal["left", "center", "right"] = "left",
        weight: Weight = "normal",
        colour: str = INK,
        keep_end: bool = False,
        **style: Any,
    ) -> str:
        """Write one line, as it is (never as mathematics), shortened to its room.

        Args:
            left: where it starts, or ends, or has its middle, as ``align`` says.
            middle: the height of the line's middle.
            text: of any origin.
            size: in points.
            room: its greatest width; by default as far as the page goes to the right.
            align: what ``left`` means.
            weight: of the font.
            colour: of the text.
            keep_end: shorten in the middle.
            style: further properties of the text.

        Returns:
            The text as written.
        """
        written = fitted(text, self.width - left if room is None else room, size, weight, keep_end=keep_end)
        self.axes.text(
            left,
            middle,
            written,
            fontsize=size,
            ha=align,
            va="center_baseline",
            fontweight=weight,
            color=colour,
            family=list(families()),
            parse_math=False,
            **style,
        )
        return written


@contextmanager
def page(width: float, height: float) -> Iterator[Page]:
    """Give an empty page in the project's style, in inches."""
    with styled(width, height) as figure:
        yield Page(figure)


@cache
def families() -> tuple[str, ...]:
    """The font families that texts are drawn with, those of them that are installed."""
    installed = set(fontManager.get_font_names())
    return tuple(family for family in _FAMILIES if family in installed)


def drawable(text: str) -> str:
    """The text on one line, with a box for every character that no font has."""
    # A file name may hold bytes that are no text, which Python keeps as lone surrogates.
    clean = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    known = _known_characters()
    return "".join(each if ord(each) in known else " " if each.isspace() else _UNKNOWN for each in clean).strip()


def width(text: str, size: float, weight: str = "normal") -> float:
    """How wide a text is drawn, in inches.

    Args:
        text: drawable, on one line.
        size: in points.
        weight: ``normal`` or ``bold``.
    """
    properties = FontProperties(family=list(families()), size=size, weight=weight)
    points, _, _ = text_to_path.get_text_width_height_descent(text, properties, ismath=False)
    return float(points) / 72


def fitted(text: str, room: float, size: float, weight: str = "normal", *, keep_end: bool = False) -> str:
    """The drawable text, shortened with an ellipsis where it is wider than its room.

    Args:
        text: any text.
        room: in inches.
        size: in points.
        weight: ``normal`` or ``bold``.
        keep_end: shorten in the middle, so that the end of a file name stays.
    """
    whole = drawable(text)
    if width(whole, size, weight) <= room:
        return whole
    fits, too_long = 0, min(len(whole), 500)
    while too_long - fits > 1:
        length = (fits + too_long) // 2
        if width(_shortened(whole, length, keep_end), size, weight) <= room:
            fits = length
        else:
            too_long = length
    return _shortened(whole, fits, keep_end)


def _shortened(text: str, length: int, keep_end: bool) -> str:
    tail = length // 2 if keep_end else 0
    return text[: length - tail].rstrip() + ELLIPSIS + text[len(text) - tail :]


@cache
def _known_characters() -> frozenset[int]:
    fonts = (get_font(findfont(family)) for family in families())
    return frozenset(code for font in fonts for code in font.get_charmap())
