"""Reliability diagrams: accuracy against confidence, stage by stage."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lfvit_cli.analysis.breakdown import Calibration
from lfvit_cli.figures.style import MUTED, colour, styled


def draw_reliability(name: str, stages: Sequence[Calibration]) -> Figure:
    """Draw a panel a stage: top-1 of the images in each bin of confidence, and how many images the bin holds.

    Args:
        name: of the model.
        stages: at least one.
    """
    with styled(max(5.2, 3.6 * len(stages) + 0.4), 5.1) as figure:
        panels = figure.subplots(2, len(stages), sharex=True, sharey="row", squeeze=False, height_ratios=(3.4, 1))
        for index, stage in enumerate(stages):
            _draw_accuracy(panels[0, index], stage, colour(index))
            _draw_images(panels[1, index], stage, colour(index))
        panels[0, 0].set_ylabel("top-1 accuracy (%)")
        panels[1, 0].set_ylabel("images (%)")
        figure.suptitle(f"Confidence against accuracy\n{name}", x=0.02, ha="left", fontweight="bold", fontsize=11)
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _draw_accuracy(axes: Axes, stage: Calibration, own: str) -> None:
    x = np.array([100 * each.confidence for each in stage.bins])
    top1, low, high = (
        100 * np.array([getattr(each, key) for each in stage.bins]) for key in ("top1", "top1_low", "top1_high")
    )
    axes.plot([0, 100], [0, 100], color=MUTED, lw=1.2, dashes=(4, 2), label="perfectly calibrated", zorder=2)
    axes.errorbar(x, top1, yerr=[top1 - low, high - top1], color=own, fmt="none", lw=1, capsize=2, zorder=3)
    axes.plot(x, top1, color=own, marker="o", ms=5, mec="white", lw=1.6, zorder=4)
    auroc = "-" if stage.auroc is None else f"{stage.auroc:.3f}"
    # On the side of the diagonal where the curve is not.
    below = stage.top1 > stage.confidence
    axes.text(
        0.96 if below else 0.04,
        0.04 if below else 0.96,
        f"calibration error {100 * stage.ece:.1f} points\nAUROC {auroc}",
        transform=axes.transAxes,
        ha="right" if below else "left",
        va="bottom" if below else "top",
        linespacing=1.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )
    axes.set_title(stage.stage, fontsize=10)
    axes.set_xlim(0, 100)
    axes.set_ylim(-3, 103)


def _draw_images(axes: Axes, stage: Calibration, own: str) -> None:
    total = sum(each.images for each in stage.bins)
    axes.bar(
        [100 * each.low for each in stage.bins],
        [100 * each.images / total for each in stage.bins],
        width=[100 * (each.high - each.low) * 0.94 for each in stage.bins],
        align="edge",
        color=own,
        alpha=0.55,
    )
    axes.set_xlabel("confidence (%)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
