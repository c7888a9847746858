"""Small folders of photos, narrow networks and settings that the tests of training share."""

import shutil
from pathlib import Path
from typing import Any

from lfvit_cli.images.demo import demo_photos
from lfvit_cli.training.recipes import Recipe
from lfvit_cli.training.settings import TrainSettings

LF_VIT = "lf_deit_tiny:depth=4,embed_dim=24,num_heads=3"
SPECS = (
    LF_VIT,
    "deit_tiny_patch16_224:depth=4,embed_dim=24,num_heads=3",
    "dynamicvit_deit_tiny:depth=4,embed_dim=24,num_heads=3,pruning_layers=(1,2)",
    "evo_deit_tiny_patch16_224:depth=6,embed_dim=24,num_heads=3",
)


def copy_photos(folder: Path, train: int = 16, validation: int = 4, classes: int = 2) -> Path:
    """Copy demo photos into splits of class folders, and name the folder of the splits."""
    listing = demo_photos("validation")
    for label in range(classes):
        files = [listing.file(index) for index in range(len(listing)) if listing.labels[index] == label]
        chosen = {"train": files[: train // classes], "validation": files[train // classes :][: validation // classes]}
        for split, members in chosen.items():
            place = folder / split / listing.class_names[label]
            place.mkdir(parents=True)
            for file in members:
                shutil.copy(file, place)
    return folder


def settings(data: Path, model: str = LF_VIT, **changes: Any) -> TrainSettings:
    """Settings of a short training on one CPU; keywords change the recipe or the settings."""
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "final_form_from": 0.5}
    recipe |= {name: changes.pop(name) for name in list(changes) if name in Recipe.model_fields}
    return TrainSettings(
        **{"model": model, "data": data, "recipe": Recipe(**recipe), "precision": "float32", "device": "cpu", **changes}
    )


def quiet(_done: int, _total: int, _what: str) -> None:
    """Hear of the progress and say nothing."""
