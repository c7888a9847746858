"""What the shipped predictions say: the demo network's exit threshold, and every system's accuracy."""

import math
from collections.abc import Iterable

from lfvit_cli.analysis.exits import exit_curve
from lfvit_cli.analysis.targets import Aim, Target, choose
from lfvit_cli.demo.suite import demo_predictions
from lfvit_cli.evaluation.table import read_predictions
from lfvit_cli.policies import ExitPolicy

NO_LOSS = Target(aim=Aim.MAX_DROP, value=0.0)


def demo_threshold(model: str, target: Target = NO_LOSS) -> float | None:
    """The confidence from which a shipped network's first answer stands, calibrated on the validation photos.

    Args:
        model: a system of the suite.
        target: what the threshold is chosen for; by default the cheapest that loses nothing to the last stage.

    Returns:
        The threshold; None where its validation predictions are not shipped, or it has no exit.
    """
    file = demo_predictions(model, "validation")
    if file is None:
        return None
    curve = exit_curve(read_predictions(file))
    if not curve.thresholds.shape[1]:
        return None
    row, _ = choose(curve, target)
    # Three digits, to be written and typed; upwards, so that no photo exits that would not have.
    return math.ceil(1000 * float(curve.thresholds[row, 0])) / 1000


def demo_top1(model: str) -> float | None:
    """Top-1 of a system's last stage on the demo test photos, 0 to 1; None where its predictions are not shipped."""
    file = demo_predictions(model, "test")
    if file is None:
        return None
    curve = exit_curve(read_predictions(file))
    return curve.last_correct / curve.images


def demo_thresholds(models: Iterable[str]) -> dict[str, float]:
    """The calibrated threshold of each model that has one."""
    thresholds = {model: demo_threshold(model) for model in models}
    return {model: threshold for model, threshold in thresholds.items() if threshold is not None}


def demo_policies(models: Iterable[str]) -> dict[str, ExitPolicy]:
    """The calibrated exit policy of each model that has one."""
    return {model: ExitPolicy.at(threshold) for model, threshold in demo_thresholds(models).items()}


def known_top1(models: Iterable[str]) -> dict[str, float]:
    """Top-1 on the demo test photos of each model whose predictions are shipped."""
    found = {model: demo_top1(model) for model in models}
    return {model: top1 for model, top1 in found.items() if top1 is not None}
