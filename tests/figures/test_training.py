"""Tests of figures/training.py."""

import numpy as np

from lfvit_cli.figures.style import INK, render
from lfvit_cli.figures.training import draw_training
from lfvit_cli.training.metrics import EpochMetrics

NAME = "lf_deit_small:location_grid=9,region_size=8,alpha=0.88,drop_path_rate=0.1,num_classes=81"


def epochs(last_location: float = 0.7) -> list[EpochMetrics]:
    """Three, of a network with two stages."""
    return [
        EpochMetrics(
            number,
            10 * number,
            1e-4,
            {"loss": 3.0 / number, "focus": 2.0 / number, "location": 1.0 / number},
            {"location": last_location - 0.1 * (3 - number), "focus": 0.5 + number / 10},
            1.0,
        )
        for number in (1, 2, 3)
    ]


def test_figure_has_losses_above_accuracies() -> None:
    """A line for each loss and for each stage, in per cent, and the last accuracy written out."""
    figure = draw_training("lf_deit_small", epochs())
    losses, accuracies = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "focus", "location"]
    assert [line.get_label() for line in accuracies.lines] == ["location", "focus"]
    assert np.asarray(accuracies.lines[1].get_ydata()).tolist() == [60.0, 70.0, 80.0]
    assert [text.get_text() for text in accuracies.texts] == ["70.0", "80.0"]
    assert render(figure, "png").startswith(b"\x89PNG")


def test_a_stage_looks_alike_in_both_panels() -> None:
    """Its loss and its accuracy have one colour; the loss as a whole has another than any stage."""
    losses, accuracies = draw_training("lf_deit_small", epochs()).axes
    colours = [{line.get_label(): line.get_color() for line in axes.lines} for axes in (losses, accuracies)]
    assert colours[0] == colours[1] | {"loss": INK}
    assert len(set(colours[0].values())) == 3


def test_equal_accuracies_are_written_once() -> None:
    """Two texts at one place could not be read."""
    accuracies = draw_training("lf_deit_small", epochs(0.8)).axes[1]
    assert [text.get_text() for text in accuracies.texts] == ["80.0"]


def test_long_names_fit_the_figure() -> None:
    """In as many lines as they need."""
    figure = draw_training(NAME, epochs())
    figure.draw_without_rendering()
    title = figure.texts[0]
    assert title.get_text().replace("\n", " ") == f"Training {NAME.replace(',', ', ')}"
    assert title.get_window_extent().x1 <= figure.bbox.x1
