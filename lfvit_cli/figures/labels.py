"""Labels beside points, placed so that they cover neither each other nor the curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

# Directions to try, the most natural first.
_DIRECTIONS = ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, 1), (-1, -1), (0, -1), (0, 1))
_DISTANCES = (8, 16, 26, 38, 52, 68)
_FAR = 8
_MARKER = 3  # half a marker's width, in pixels
_ALIGN_X = {1: "left", 0: "center", -1: "right"}
_ALIGN_Y = {1: "bottom", 0: "center", -1: "top"}


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point in data coordinates."""

    x: float
    y: float
    text: str
    colour: str
    size: float = 8.0
    weight: str = "normal"


class _Place(NamedTuple):
    """Where a text goes: so many points from its point, in a direction."""

    distance: float
    direction: tuple[int, int]

    @property
    def offset(self) -> tuple[float, float]:
        reach = self.distance / float(np.hypot(*self.direction))
        return self.direction[0] * reach, self.direction[1] * reach


def place_labels(figure: Figure, axes: Axes, labels: Sequence[Label], obstacles: NDArray[np.float64]) -> None:
    """Write each label where it covers least; those given first have the choice.

    Args:
        figure: complete but for the labels.
        axes: of the figure, with its final limits.
        labels: the texts and their points.
        obstacles: (M, 2) points in data coordinates to keep clear of, such as those of curves.
    """
    # Laid out once, so that extents in pixels are final.
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    anchors = axes.transData.transform(np.array([(label.x, label.y) for label in labels]).reshape(-1, 2))
    points = axes.transData.transform(obstacles)
    frame = axes.get_window_extent()
    pixels = figure.dpi / 72
    # A label's own marker is out of its reach; another's is as bad to cover as a text.
    taken = [Bbox.from_extents(*(anchor - _MARKER), *(anchor + _MARKER)) for anchor in anchors]
    for label, anchor in zip(labels, anchors, strict=True):
        size = _size(axes, label)
        places = [_Place(distance, direction) for distance in _DISTANCES for direction in _DIRECTIONS]
        boxes = [_box(anchor, size, place, pixels) for place in places]
        costs = [
            _cost(box, frame, taken, points) + place.distance / 4 for box, place in zip(boxes, places, strict=True)
        ]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        _write(axes, label, places[best])


def _size(axes: Axes, label: Label) -> tuple[float, float]:
    """Measure a text in pixels."""
    text = axes.text(label.x, label.y, label.text, fontsize=label.size, fontweight=label.weight)
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _box(anchor: NDArray[np.float64], size: tuple[float, float], place: _Place, pixels: float) -> Bbox:
    left, bottom = (
        start + offset * pixels + (direction - 1) / 2 * length
        for start, offset, direction, length in zip(anchor, place.offset, place.direction, size, strict=True)
    )
    return Bbox.from_bounds(left, bottom, *size)


def _cost(box: Bbox, frame: Bbox, taken: Sequence[Bbox], points: NDArray[np.float64]) -> float:
    """Count what a text would cover: leaving the frame is worst, then other texts, then points and curves."""
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    padded = box.padded(1.5)
    covered = sum(padded.overlaps(other) for other in taken)
    hit = int(((points > padded.min) & (points < padded.max)).all(axis=1).sum())
    return 1000.0 * (not inside) + 200.0 * covered + 4.0 * hit


def _write(axes: Axes, label: Label, place: _Place) -> None:
    leader = {"arrowstyle": "-", "color": label.colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
    text = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=place.offset,
        textcoords="offset points",
        ha=_ALIGN_X[place.direction[0]],
        va=_ALIGN_Y[place.direction[1]],
        color=label.colour,
        fontsize=label.size,
        fontweight=label.weight,
        arrowprops=leader if place.distance > _FAR else None,
        zorder=6,
    )
    # A label has no part in the layout: it is placed within it.
    text.set_in_layout(False)
