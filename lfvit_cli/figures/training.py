"""The course of a training: loss, and accuracy of every stage on the validation photos, epoch by epoch."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfvit_cli.figures.style import colour, marker, styled
from lfvit_cli.training.metrics import EpochMetrics


def draw_training(name: str, epochs: Sequence[EpochMetrics]) -> Figure:
    """Draw two panels over one axis of epochs.

    Args:
        name: of the model.
        epochs: at least one.
    """
    numbers = [epoch.epoch for epoch in epochs]
    with styled(6.4, 5.6) as figure:
        losses, accuracies = figure.subplots(2, 1, sharex=True)
        for index, part in enumerate(epochs[0].losses):
            values = [epoch.losses[part] for epoch in epochs]
            losses.plot(numbers, values, color=colour(index), marker=marker(index), ms=4, label=part.replace("_", " "))
        for index, stage in enumerate(epochs[0].top1):
            values = [100 * epoch.top1[stage] for epoch in epochs]
            accuracies.plot(numbers, values, color=colour(index), marker=marker(index), ms=4, label=stage)
            accuracies.annotate(
                f"{values[-1]:.1f}", (numbers[-1], values[-1]), xytext=(6, 0), textcoords="offset points", va="center"
            )
        losses.set_ylabel("training loss")
        accuracies.set_ylabel("validation top-1 (%)")
        accuracies.set_xlabel("epoch")
        accuracies.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (losses, accuracies):
            axes.legend(loc="best")
        figure.suptitle(f"Training\n{name}", x=0.02, ha="left", fontweight="bold", fontsize=11)
    return figure
