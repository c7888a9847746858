"""Texts of any origin made fit for a picture: drawable characters, no wider than their place."""

import unicodedata
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path

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
