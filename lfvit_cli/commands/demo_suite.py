"""What the commands take from the trained demo suite where the user names nothing else."""

from collections.abc import Iterable
from pathlib import Path

from lfvit_cli.demo.suite import SYSTEMS, demo_predictions, demo_weights


def with_demo_weights(models: Iterable[str], given: dict[str, str], data: Path | str | None) -> dict[str, str]:
    """Checkpoints of the suite for models that are given none, on the demo photos; empty on other data."""
    if data is not None:
        return {}
    found = {model: demo_weights(model) for model in models if model not in given}
    return {model: str(path) for model, path in found.items() if path is not None}


def demo_thresholds(models: Iterable[str]) -> dict[str, float]:
    """The calibrated exit threshold of each demo network that has exits."""
    from lfvit_cli.analysis.demo import demo_threshold

    thresholds = {model: demo_threshold(model) for model in models}
    return {model: threshold for model, threshold in thresholds.items() if threshold is not None}


def known_top1(models: Iterable[str]) -> dict[str, float]:
    """Top-1 on the demo test photos of each model whose predictions are shipped."""
    from lfvit_cli.analysis.demo import demo_top1

    found = {model: demo_top1(model) for model in models}
    return {model: top1 for model, top1 in found.items() if top1 is not None}


def demo_sources() -> list[str]:
    """The shipped predictions of every system on the demo test photos."""
    found = (demo_predictions(model, "test") for model in SYSTEMS)
    return [str(path) for path in found if path is not None]
