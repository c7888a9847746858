"""Realised against promised speed-up: above the diagonal the clock gives more than the MACs promise."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lfvit_cli.figures.scaling import LONG_NAME
from lfvit_cli.figures.style import MUTED, colour, marker, styled

if TYPE_CHECKING:
    from lfvit_cli.bench.record import BenchRecord, BenchRow

ROOM = 1.15  # factor of empty space around the points
PANEL, FOOT = 3.6, 1.1
MAX_COLUMNS = 4


def promises_figure(record: "BenchRecord") -> Figure:
    """A panel for every precision and batch size, a point for every row but the reference's, with its 95 % interval."""
    models = list(dict.fromkeys(row.model for row in record.rows))
    rows = [row for row in record.rows if row.model != record.settings.reference] or list(record.rows)
    panels = [list(members) for _, members in groupby(rows, key=lambda row: (row.dtype, row.batch_size))]
    ends = [value for row in rows for value in (row.promised_speedup, *row.realised_speedup_interval, 1.0)]
    limits = (min(ends) / ROOM, max(ends) * ROOM)
    columns = min(MAX_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    with styled(max(6.4, PANEL * columns), PANEL * lines + FOOT) as figure:
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, members in zip(grid.flat, panels, strict=False):
            _draw(axes, members, models, limits)
        title = f"Realised against promised speed-up on {record.device_name}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        named = dict(zip(*reversed(grid.flat[0].get_legend_handles_labels()), strict=True))
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside lower left",
            ncols=1 if max(map(len, named)) > LONG_NAME else 2 if columns < 3 else 4,
            title=f"over {record.settings.reference}; bars: bootstrap 95 % intervals",
            title_fontsize=7.5,
            alignment="left",
        ).get_title().set_color(MUTED)
    return figure


def _draw(axes: Axes, rows: Sequence["BenchRow"], models: Sequence[str], limits: tuple[float, float]) -> None:
    axes.plot(limits, limits, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="realised = promised")
    swept = len({row.asked_rate for row in rows} - {None}) > 1
    for row in rows:
        low, high = row.realised_speedup_interval
        index = models.index(row.model)
        axes.errorbar(
            [row.promised_speedup],
            [row.realised_speedup],
            yerr=[[row.realised_speedup - low], [high - row.realised_speedup]],
            color=colour(index),
            marker=marker(index),
            markersize=8,
            markeredgecolor="white",
            capsize=3,
            linewidth=1.2,
            label=row.model,
        )
        if swept and row.asked_rate is not None:
            point = (row.promised_speedup, row.realised_speedup)
            text = f"{row.exit_rate:.0%} exit"
            axes.annotate(text, point, xytext=(7, -9), textcoords="offset points", fontsize=7, color=MUTED)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(_ticks(*limits))
        axis.set_ticks([], minor=True)
        axis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set(xlabel="promised by the MACs", ylabel="realised on the clock")
    axes.set_title(f"batch {rows[0].batch_size}, {rows[0].dtype}", fontsize=10)


def _ticks(low: float, high: float) -> list[float]:
    """At most six round values within an axis."""
    for step in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0):
        ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        if len(ticks) <= 6:
            return [float(value) for value in ticks]
    return [1.0]
