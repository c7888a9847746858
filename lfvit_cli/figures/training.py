"""The course of a training: loss, and accuracy of every stage on the validation photos, epoch by epoch."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfvit_cli.figures.style import INK, colour, marker, styled

if TYPE_CHECKING:
    from lfvit_cli.training.metrics import EpochMetrics

WIDTH = 66  # of the title, in characters
WHOLE = "loss"


def draw_training(name: str, epochs: "Sequence[EpochMetrics]") -> Figure:
    """Draw two panels over one axis of epochs; a stage has the same look in both.

    Args:
        name: of the model.
        epochs: at least one.
    """
    numbers = [epoch.epoch for epoch in epochs]
    # Stages first, then the parts of a loss that are none.
    series = list(dict.fromkeys((*epochs[0].top1, *epochs[0].losses)))
    looks = {
        part: (colour(index), marker(index)) for index, part in enumerate(each for each in series if each != WHOLE)
    }
    looks[WHOLE] = (INK, ".")
    with styled(6.4, 5.6) as figure:
        losses, accuracies = figure.subplots(2, 1, sharex=True)
        for part in epochs[0].losses:
            _draw(losses, numbers, [epoch.losses[part] for epoch in epochs], part, looks[part])
        for stage in epochs[0].top1:
            _draw(accuracies, numbers, [100 * epoch.top1[stage] for epoch in epochs], stage, looks[stage])
        # Stages that end with the same accuracy share the text.
        for last in dict.fromkeys(f"{100 * top1:.1f}" for top1 in epochs[-1].top1.values()):
            place = (numbers[-1], float(last))
            accuracies.annotate(last, place, xytext=(7, 0), textcoords="offset points", va="center")
        losses.set_ylabel("training loss")
        accuracies.set_ylabel("validation top-1 (%)")
        accuracies.set_xlabel("epoch")
        accuracies.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (losses, accuracies):
            axes.legend(loc="best")
        title = textwrap.fill(name.replace(",", ", "), WIDTH)
        figure.suptitle(f"Training\n{title}", x=0.02, ha="left", fontweight="bold", fontsize=11)
    return figure


def _draw(axes: Axes, epochs: list[int], values: list[float], name: str, look: tuple[str, str]) -> None:
    axes.plot(epochs, values, color=look[0], marker=look[1], ms=4, label=name.replace("_", " "))
