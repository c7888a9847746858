"""A stage's most probable classes as bars, and the MACs spent as one bar."""

import numpy as np

from lfvit_cli.figures.page import Box, Page, Weight
from lfvit_cli.figures.style import FAINT, INK, MUTED, colour
from lfvit_cli.figures.verdicts import mark, probability
from lfvit_cli.looks.look import Look, StageLook
from lfvit_cli.policies import Criterion, ExitPolicy

SLOT = 0.25
HEADING = 0.3
# Shares of the width: names, then bars; numbers take the rest.
_NAMES, _BARS = 0.40, 0.46
_SIZE = 9.5


def answers_height(look: Look) -> float:
    """How high :func:`draw_answers` draws, in inches."""
    return HEADING + SLOT * max(len(stage.top) for stage in look.stages) + (0.3 if look.policy is not None else 0.0)


def draw_answers(page: Page, look: Look, index: int, left: float, top: float, width: float) -> None:
    """Draw a stage's classes and probabilities, and the threshold where this stage can exit.

    Args:
        page: to draw on.
        look: what was decided.
        index: of the stage.
        left: in inches.
        top: in inches.
        width: in inches.
    """
    stage = look.stages[index]
    stands = index == look.answered
    page.text(
        left, top + 0.1, _heading(look, index), 10, room=width, weight="bold", colour=INK if stage.needed else MUTED
    )
    bars = Box(left + _NAMES * width, top + HEADING, _BARS * width, SLOT * len(stage.top))
    page.lines([[(x, bars.top), (x, bars.bottom)] for x in (bars.left, bars.right)], colors=FAINT, lw=0.8, zorder=1)
    own = colour(index)
    for place, answer in enumerate(stage.top):
        middle = bars.top + (place + 0.5) * SLOT
        best = place == 0 and stage.needed
        weight: Weight = "bold" if place == 0 and stands else "normal"
        tone = INK if stage.needed else MUTED
        tick = mark(look, answer) if place == 0 or answer.index == look.label else ""
        page.text(left, middle, f"{answer.name} {tick}", _SIZE, room=_NAMES * width - 0.08, weight=weight, colour=tone)
        length = 0.0 if np.isnan(answer.probability) else answer.probability
        bar = Box(bars.left, middle - 0.36 * SLOT, length * bars.width, 0.72 * SLOT)
        if stage.needed:
            page.rectangle(bar, fc=own, ec="none", alpha=1.0 if best else 0.45, zorder=2)
        else:
            page.rectangle(bar, fc="white", ec=MUTED, lw=0.6, hatch="////", zorder=2)
        value = probability(answer.probability)
        page.text(left + width, middle, value, _SIZE, room=1.0, align="right", weight=weight, colour=tone)
    if look.policy is not None and index < len(look.stages) - 1:
        _draw_exit(page, look.policy, index, stage, bars)


def _heading(look: Look, index: int) -> str:
    stage = look.stages[index]
    if len(look.stages) == 1:
        return "Most probable classes"
    if not stage.needed:
        return f"{stage.name}: not needed; it would answer"
    return f"{stage.name}: {'its answer stands' if index == look.answered else 'not sure enough, go on'}"


def _draw_exit(page: Page, policy: ExitPolicy, index: int, stage: StageLook, bars: Box) -> None:
    """The threshold: across the bars where they show what is compared with it, else in words."""
    threshold = policy.thresholds[index]
    if policy.criterion is not Criterion.CONFIDENCE:
        rule = "below" if policy.criterion.exits_below else "from"
        text = f"{policy.criterion} {stage.value:.2f}, exit {rule} {threshold:.4g}"
        page.text(bars.right, bars.bottom + 0.16, text, 9, room=3.0, align="right", colour=INK)
        return
    x = bars.left + min(threshold, 1.0) * bars.width
    page.lines(
        [[(x, bars.top - 0.05), (x, bars.bottom + 0.05)]], colors=INK, lw=1.3, linestyles=[(0, (4, 2))], zorder=4
    )
    page.text(x, bars.bottom + 0.16, f"exit from {threshold:.4g}", 9, room=2.0, align="center", colour=INK)


def draw_cost(page: Page, look: Look, left: float, top: float, width: float, most: float | None = None) -> None:
    """Draw the MACs of the stages end to end: filled where spent, hatched where saved.

    Args:
        page: to draw on.
        look: what was decided.
        left: in inches.
        top: in inches.
        width: in inches, of ``most``.
        most: MACs that the whole width stands for; by default those of all stages.
    """
    scale = width / (most or look.most_macs)
    start = left
    for index, stage in enumerate(look.stages):
        bar = Box(start, top, stage.macs * scale, 0.2)
        if stage.needed:
            page.rectangle(bar, fc=colour(index), ec="white", lw=0.6)
        else:
            page.rectangle(bar, fc="white", ec=MUTED, lw=0.6, hatch="////")
        start = bar.right
