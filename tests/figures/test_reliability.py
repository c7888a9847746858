"""Tests of figures/reliability.py."""

import numpy as np
import pytest
from made_predictions import random_predictions
from matplotlib.patches import Rectangle

from lfvit_cli.analysis.breakdown import calibration
from lfvit_cli.figures.reliability import draw_reliability
from lfvit_cli.figures.style import render


@pytest.mark.parametrize("stages", [("full",), ("location", "focus"), ("one", "two", "three")])
def test_every_stage_has_its_panel(stages: tuple[str, ...]) -> None:
    """Each stage has a panel with its bins, in per cent, over a panel with the images in them."""
    measured = calibration(random_predictions(300, stages=stages))
    figure = draw_reliability("made", measured)
    assert [axes.get_title(loc="left") for axes in figure.axes[: len(stages)]] == list(stages)
    for axes, stage in zip(figure.axes, measured, strict=False):
        drawn = np.asarray(axes.lines[-1].get_xydata())
        assert np.allclose(drawn, [(100 * each.confidence, 100 * each.top1) for each in stage.bins])
        below = figure.axes[len(stages) + measured.index(stage)]
        assert sum(bar.get_height() for bar in below.patches if isinstance(bar, Rectangle)) == pytest.approx(100)


def test_stages_that_are_always_right_are_drawn() -> None:
    """Without wrong answers there is no AUROC, and still a picture."""
    table = random_predictions(30, stages=("full",))
    object.__setattr__(table.stages["full"], "prediction", table.labels)
    figure = draw_reliability("made", calibration(table))
    assert "AUROC -" in figure.axes[0].texts[0].get_text()
    assert len(render(figure, "svg")) > 1_000
