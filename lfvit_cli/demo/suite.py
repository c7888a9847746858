"""The trained demo suite: whose weights and whose predictions come with the package."""

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


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
