"""Realised against promised speed-up: above the diagonal the clock gives more than the MACs promise."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lfvit_cli.figures.speed import model_indices
from lfvit_cli.figures.style import MUTED, colour, marker, styled

if TYPE_CHECKING:
    from lfvit_cli.measure.speed_record import BenchRecord

ROOM = 1.15  # factor of empty space around the points


def promises_figure(record: "BenchRecord") -> Figure:
    """A point for every row but the reference's, with its bootstrap 95 % interval; both axes logarithmic."""
    rows = [row for row in record.rows if row.model != record.settings.reference] or list(record.rows)
    several = len({(row.dtype, row.batch_size) for row in rows}) > 1
    ends = [value for row in rows for value in (row.promised_speedup, *row.realised_speedup_interval, 1.0)]
    limits = (min(ends) / ROOM, max(ends) * ROOM)
    with styled(6.4, 5.8) as figure:
        axes = figure.subplots()
        axes.plot(limits, limits, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="realised = promised")
        for row, index in zip(rows, model_indices(rows), strict=True):
            low, high = row.realised_speedup_interval
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
            if several:
                _name(axes, (row.promised_speedup, row.realised_speedup), f"{row.dtype}, batch {row.batch_size}")
        axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(_ticks(*limits))
            axis.set_ticks([], minor=True)
            axis.set_major_formatter(lambda value, _: f"{value:g}x")
        axes.set(xlabel="speed-up that the MACs promise", ylabel="speed-up on the clock")
        figure.suptitle("Realised against promised speed-up", x=0.01, ha="left", fontsize=12, fontweight="bold")
        named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside lower left",
            ncols=2,
            title=f"over {record.settings.reference}; bars: bootstrap 95 % intervals",
            title_fontsize=7.5,
            alignment="left",
        ).get_title().set_color(MUTED)
    return figure


def _name(axes: Axes, point: tuple[float, float], text: str) -> None:
    axes.annotate(text, point, xytext=(7, -9), textcoords="offset points", fontsize=6.5, color=MUTED)


def _ticks(low: float, high: float) -> list[float]:
    """At most eight round values within an axis."""
    for step in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0):
        ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        if len(ticks) <= 8:
            return [float(value) for value in ticks]
    return [1.0]
