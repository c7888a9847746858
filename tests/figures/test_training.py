"""Tests of figures/training.py."""

import numpy as np

from lfvit_cli.figures.style import render
from lfvit_cli.figures.training import draw_training
from lfvit_cli.training.metrics import EpochMetrics


def test_figure_has_losses_above_accuracies() -> None:
    """A line for each loss and for each stage, in per cent, and the last accuracy written out."""
    epochs = [
        EpochMetrics(
            number,
            10 * number,
            1e-4,
            {"loss": 3.0 / number, "focus": 2.0 / number, "location": 1.0 / number},
            {"location": 0.4 + number / 10, "focus": 0.5 + number / 10},
            1.0,
        )
        for number in (1, 2, 3)
    ]
    figure = draw_training("lf_deit_small", epochs)
    losses, accuracies = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "focus", "location"]
    assert [line.get_label() for line in accuracies.lines] == ["location", "focus"]
    assert np.asarray(accuracies.lines[1].get_ydata()).tolist() == [60.0, 70.0, 80.0]
    assert [text.get_text() for text in accuracies.texts] == ["70.0", "80.0"]
    assert render(figure, "png").startswith(b"\x89PNG")
