"""The trained demo suite: whose weights, policies and predictions for the grocery photos come with the package."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from lfvit_cli.demo.grocery import is_grocery

Split = Literal["validation", "test"]

FOLDER = Path(__file__).parent
# In the order of every table and legend.
SYSTEMS = ("lf_deit_small", "deit_small_patch16_224", "tf_efficientnet_lite0")


def demo_weights(model: str) -> Path | None:
    """The shipped checkpoint of a model, trained on the grocery photos; None where none is shipped.

    Args:
        model: its plain name: with any keyword it is another network.
    """
    return _there(FOLDER / "weights" / f"{model}.safetensors") if model in SYSTEMS else None


def demo_predictions(model: str, split: Split) -> Path | None:
    """The shipped predictions of a model on one split of the grocery photos; None where none are shipped."""
    return _there(FOLDER / "predictions" / f"{model}-{split}.parquet") if model in SYSTEMS else None


def demo_policy_file(model: str) -> Path | None:
    """The policy that ``lfvit sweep-threshold`` chose for a model on grocery photos; None where none is shipped."""
    return _there(FOLDER / "policies" / f"{model}.json") if model in SYSTEMS else None


def with_demo_weights(models: Iterable[str], given: dict[str, str], data: Path | str | None) -> dict[str, str]:
    """Shipped checkpoints for the models that are given none; empty on photos of other classes.

    Args:
        models: specs.
        given: checkpoints that the user names, by model.
        data: where photos come from; None for the package's own.
    """
    if data is not None and not is_grocery(str(data)):
        return {}
    found = {model: demo_weights(model) for model in models if model not in given}
    return {model: str(path) for model, path in found.items() if path is not None}


def all_demo_predictions() -> list[str]:
    """The files of every system's predictions on the grocery test photos."""
    found = (demo_predictions(model, "test") for model in SYSTEMS)
    return [str(path) for path in found if path is not None]


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
