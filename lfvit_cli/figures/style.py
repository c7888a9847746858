"""One look for every figure, legible without colour vision, and the same bytes for the same data."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's palette, darkest first: distinguishable with every kind of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#222222"
MUTED = "#6B6B6B"
FAINT = "#D9D9D9"

# Matplotlib types its settings key by key, which a plain dict of them cannot follow.
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
    # Text as outlines, so that a picture looks the same where the font is missing.
    "svg.fonttype": "path",
    # Without a fixed salt every drawing has other identifiers.
    "svg.hashsalt": "lfvit",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@contextmanager
def styled(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure, in inches, and the project's style for as long as it is drawn.

    The figure stands alone: pyplot, its windows and its global state are never touched.
    """
    with _look():
        yield Figure(figsize=(width, height), layout="constrained")


def render(figure: Figure, file_format: Literal["png", "svg", "pdf"]) -> bytes:
    """Draw a figure; the same figure gives the same bytes."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[file_format]
    buffer = io.BytesIO()
    with _look():
        figure.savefig(buffer, format=file_format, metadata=metadata)
    return buffer.getvalue()


def colour(index: int) -> str:
    """Give the colour of the index-th series."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """Give the marker of the index-th series, so that series differ in shape as well as in colour."""
    return MARKERS[index % len(MARKERS)]


@contextmanager
def _look() -> Iterator[None]:
    """Set the style for a while, over Matplotlib's defaults and not over the user's own settings."""
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")}
    with mpl.rc_context({**defaults, **STYLE}):
        yield
