"""The trained demo suite: whose weights and whose predictions come with the package."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Split = Literal["validation", "test"]

FOLDER = Path(__file__).parent
# In the order of every table and legend.
SYSTEMS = ("lf_deit_small", "deit_small_patch16_224", "dynamicvit_deit_small", "evo_deit_small_patch16_224")


def demo_weights(model: str) -> Path | None:
    """The shipped checkpoint of a model, trained on the demo photos' classes; None where none is shipped.

    Args:
        model: its plain name: with any keyword it is another network.
    """
    return _there(FOLDER / "weights" / f"{model}.safetensors") if model in SYSTEMS else None


def demo_predictions(model: str, split: Split) -> Path | None:
    """The shipped predictions of a model on one split of the demo photos; None where none are shipped."""
    return _there(FOLDER / "predictions" / f"{model}-{split}.parquet") if model in SYSTEMS else None


def with_demo_weights(models: Iterable[str], given: dict[str, str], data: Path | str | None) -> dict[str, str]:
    """Shipped checkpoints for the models that are given none, on the demo photos; empty on other data.

    Args:
        models: specs.
        given: checkpoints that the user names, by model.
        data: where photos come from; None for the demo photos.
    """
    if data is not None:
        return {}
    found = {model: demo_weights(model) for model in models if model not in given}
    return {model: str(path) for model, path in found.items() if path is not None}


def all_demo_predictions() -> list[str]:
    """The files of every system's predictions on the demo test photos."""
    found = (demo_predictions(model, "test") for model in SYSTEMS)
    return [str(path) for path in found if path is not None]


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
