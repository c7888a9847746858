"""Latency of single images, those that exit early apart from those that go on."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lfvit_cli.figures.style import MUTED, colour, styled

if TYPE_CHECKING:
    from lfvit_cli.bench.record import BenchRecord, BenchRow, RawTimings

BINS = 60
SHOWN = 99.5  # percentile beyond which a hiccup of the machine would flatten the picture


def latency_figure(record: "BenchRecord") -> Figure | None:
    """A panel for each row of batch 1 answered at once: how often an image took how long; None without such a row."""
    pairs = [
        (row, raw) for row, raw in zip(record.rows, record.timings, strict=True) if row.latency and raw.images == 1
    ]
    if not pairs:
        return None
    everything = np.concatenate([1000 * np.concatenate(raw.seconds) for _, raw in pairs])
    edges = np.linspace(0, float(np.percentile(everything, SHOWN)), BINS)
    with styled(6.8, 1.35 * len(pairs) + 1.5) as figure:
        panels = figure.subplots(len(pairs), 1, squeeze=False, sharex=True).flat
        for axes, (row, raw) in zip(panels, pairs, strict=True):
            _draw(axes, row, raw, edges)
        figure.axes[-1].set_xlabel("milliseconds per image")
        title = f"Latency at batch 1 on {record.device_name}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _draw(axes: Axes, row: "BenchRow", raw: "RawTimings", edges: NDArray[np.float64]) -> None:
    milliseconds, stage = 1000 * np.concatenate(raw.seconds), np.concatenate(raw.answered).argmax(axis=1)
    if row.policy is None:
        shown = [(milliseconds, MUTED, "all images")]
    else:
        shown = [
            (milliseconds[stage == index], colour(index), f"answered by {name}")
            for index, name in enumerate(row.stages)
        ]
    shown = [(values, tint, name) for values, tint, name in shown if len(values)]
    axes.hist(
        [values for values, _, _ in shown],
        bins=edges.tolist(),
        stacked=True,
        color=[tint for _, tint, _ in shown],
        label=[f"{name}: {len(values) / len(milliseconds):.0%}" for values, _, name in shown],
    )
    axes.axvline(float(milliseconds.mean()), color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set_title(f"{row.model}, {row.dtype}: mean {milliseconds.mean():.3g} ms", fontsize=9)
    axes.set_xlim(left=0)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper right", fontsize=7.5)
