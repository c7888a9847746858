"""Speed against cost: what each network's MACs promise, and what the clock says."""

import math
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lfvit_cli.figures.labels import Label, place_labels
from lfvit_cli.figures.style import MUTED, colour, marker, styled

if TYPE_CHECKING:
    from lfvit_cli.bench.record import BenchRecord, BenchRow

PANEL = (4.4, 3.8)
FOOT = 1.4
MAX_COLUMNS = 3
ROOM = 1.6  # factor of empty space around the points, for their labels


def speed_figure(record: "BenchRecord") -> Figure:
    """A panel for every precision and batch size: images/s over GMACs, on logarithmic axes.

    The dashed line is the promise: the reference's speed, were time to follow the MACs.
    """
    panels = [list(rows) for _, rows in groupby(record.rows, key=lambda row: (row.dtype, row.batch_size))]
    columns = min(MAX_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    width = max(PANEL[0] * columns, 6.4)
    with styled(width, PANEL[1] * lines + FOOT) as figure:
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.suptitle(_title(record), x=0.01, ha="left", fontsize=12, fontweight="bold")
        for axes, rows in zip(grid.flat, panels, strict=False):
            _draw(axes, rows, record.settings.reference)
        named = dict(zip(*reversed(grid.flat[0].get_legend_handles_labels()), strict=True))
        handles, names = list(named.values()), list(named)
        legend = figure.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=2 if columns == 1 else 3,
            title=textwrap.fill(_circumstances(record), 78 * columns),
            title_fontsize=7.5,
            alignment="left",
        )
        legend.get_title().set_color(MUTED)
        # Labels come last: they look for room in the finished layout.
        for axes, rows in zip(grid.flat, panels, strict=False):
            _label(figure, axes, rows, record.settings.reference)
    return figure


def _draw(axes: Axes, rows: Sequence["BenchRow"], reference: str) -> None:
    speeds = [row.images_per_second.median for row in rows]
    span, promise = _promise(rows, reference).T
    axes.plot(span, promise, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1, label="what the MACs promise")
    for row, index in zip(rows, model_indices(rows), strict=True):
        _point(axes, row, index)
    highest = max(*speeds, promise[0])
    axes.set(xscale="log", yscale="log", xlim=(span[0], span[-1]), ylim=(min(speeds) / ROOM, highest))
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_ticks(_ticks(*limits))
        axis.set_ticks([], minor=True)
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="GMACs per image, at the measured exit rate", ylabel="images/s")
    axes.set_title(f"batch {rows[0].batch_size}, {rows[0].dtype}", fontsize=10)


def _promise(rows: Sequence["BenchRow"], reference: str) -> NDArray[np.float64]:
    """(60, 2) costs and the speeds they promise: the reference's MACs a second, spent on fewer or more MACs."""
    base = next(row for row in rows if row.model == reference)
    costs = [row.expected_macs / 1e9 for row in rows]
    span = np.geomspace(min(costs) / ROOM, max(costs) * ROOM, 60)
    return np.column_stack((span, base.images_per_second.median * base.expected_macs / 1e9 / span))


def model_indices(rows: Sequence["BenchRow"]) -> list[int]:
    """The index of each row's model among the models, which has its colour and its marker."""
    models = list(dict.fromkeys(row.model for row in rows))
    return [models.index(row.model) for row in rows]


def _label(figure: Figure, axes: Axes, rows: Sequence["BenchRow"], reference: str) -> None:
    labels = [
        Label(row.expected_macs / 1e9, row.images_per_second.median, _text(row, reference), colour(index), 8.5, "bold")
        for row, index in zip(rows, model_indices(rows), strict=True)
    ]
    place_labels(figure, axes, labels, _promise(rows, reference))


def _point(axes: Axes, row: "BenchRow", index: int) -> None:
    speed = row.images_per_second
    axes.errorbar(
        row.expected_macs / 1e9,
        speed.median,
        yerr=[[speed.median - speed.low], [speed.high - speed.median]],
        color=colour(index),
        marker=marker(index),
        markersize=8,
        markeredgecolor="white",
        capsize=3,
        linewidth=1.2,
        zorder=3,
        label=row.model,
    )


def _text(row: "BenchRow", reference: str) -> str:
    if row.model == reference:
        return "reference"
    return f"{row.realised_speedup:.2f}x, promised {row.promised_speedup:.2f}x"


def _ticks(low: float, high: float) -> list[float]:
    """Round values 1, 2, 5, 10, ... within an axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in (1, 2, 5) if low <= step * 10.0**decade <= high]


def _title(record: "BenchRecord") -> str:
    return f"Speed against cost on {record.device_name}"


def _circumstances(record: "BenchRecord") -> str:
    rates = {f"{row.exit_rate:.2f}" for row in record.rows if row.policy is not None}
    exits = f"measured exit rate {', '.join(sorted(rates))}; " if rates else ""
    threads = record.environment.device.threads if record.environment.device else None
    how = f"{exits}{_weights(record)}{threads} threads"
    return f"{how}; bars: bootstrap 95 % intervals of the median; {record.settings.data}"


def _weights(record: "BenchRecord") -> str:
    trained = dict.fromkeys(row.model for row in record.rows if row.trained)
    if all(row.trained for row in record.rows):
        return ""
    return f"random weights but in {', '.join(trained)}; " if trained else "random weights; "
