"""What is trained, on what, how, and from where: recipes of hyperparameters, and all settings of a training."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from lfvit_cli.training.objective import Distillation

Share = Annotated[float, Field(ge=0, le=1)]
RecipeName = Literal["demo", "deit"]
Precision = Literal["float32", "bfloat16", "float16"]

# What of timm's RandAugment configurations is offered: magnitude and its spread, operations and their probability.
RAND_AUGMENT = r"rand(-(m|n|inc)\d{1,2}|-(mstd|p)\d{1,2}(\.\d+)?)*"
# They change how fast a training is, or how its result is stored; not what it learns.
_HARMLESS = {"device", "threads", "workers", "save_dtype", "data", "imports"}


class Recipe(BaseModel):
    """Everything about a training but the network, the data and the machine.

    Attributes:
        epochs: passes over the data.
        batch_size: photos in one forward pass of one process.
        accumulate: forward passes before each update.
        optimizer: timm's name for it.
        lr: highest learning rate.
        lr_batch_size: where given, ``lr`` is for this many photos an update, and grows in proportion.
        final_lr: learning rate at the end of the cosine, as a share of the highest.
        warmup: share of the training during which the rate grows from a hundredth of the highest.
        layer_decay: learning rate of a layer over that of the layer above it; 1 for the same everywhere.
        weight_decay: not applied to biases, norms, the class token and positions.
        clip_grad: largest norm of the gradient; None for any.
        ema_decay: of the moving average of the weights, which is then what is validated and saved; None for none.
        crop_scale: least and greatest share of a photo's area that a random crop keeps.
        flip: probability of mirroring.
        rand_augment: random operations on each photo, as timm's configuration string; None for none.
        mixup: alpha of mixup; 0 for none.
        cutmix: alpha of cutmix; 0 for none.
        erasing: probability of erasing a rectangle.
        label_smoothing: share of each label spread over all classes.
        repeats: how often an epoch shows the same photo, of accordingly fewer photos (repeated augmentation).
        drop_path: highest rate of stochastic depth.
        distillation: how a teacher's logits are learned from, if there is a teacher and the method has no own way.
        temperature: of the soft distillation.
        alpha: the teacher's share.
        final_form_from: share of the training after which the network runs as at inference (LF-ViT's and CF-ViT's
            selection, EViT's keep rate, Evo-ViT's stages); None for what its authors published.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    accumulate: Annotated[int, Field(ge=1, le=65_536)] = 1
    optimizer: str = "adamw"
    lr: PositiveFloat
    lr_batch_size: PositiveInt | None = None
    final_lr: Share = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1
    weight_decay: NonNegativeFloat = 0.05
    clip_grad: PositiveFloat | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    flip: Share = 0.5
    rand_augment: str | None = None
    mixup: NonNegativeFloat = 0
    cutmix: NonNegativeFloat = 0
    erasing: Share = 0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0
    distillation: Distillation = "none"
    temperature: PositiveFloat = 3
    alpha: Share = 0.5
    final_form_from: Share | None = None

    @field_validator("crop_scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the least share is above the greatest")
        return scale

    @field_validator("rand_augment")
    @classmethod
    def _known_to_timm(cls, configuration: str | None) -> str | None:
        if configuration is not None and not re.fullmatch(RAND_AUGMENT, configuration):
            raise ValueError("not a configuration such as rand-m9-mstd0.5-inc1")
        return configuration

    def peak_lr(self, photos_an_update: int) -> float:
        """The highest learning rate for the photos that one update sees, over all processes."""
        return self.lr if self.lr_batch_size is None else self.lr * photos_an_update / self.lr_batch_size


RECIPES: dict[RecipeName, Recipe] = {
    # For a trained backbone and a few thousand photos.
    "demo": Recipe(
        epochs=4,
        batch_size=32,
        lr=3e-4,
        warmup=0.15,
        layer_decay=0.75,
        clip_grad=1.0,
        crop_scale=(0.5, 1.0),
        label_smoothing=0.1,
        distillation="soft",
        temperature=1,
        final_form_from=0,
    ),
    # DeiT's, which most of these methods were published with (DeiT, Table 9).
    "deit": Recipe(
        epochs=300,
        batch_size=256,
        lr=5e-4,
        lr_batch_size=512,
        warmup=5 / 300,
        ema_decay=0.99996,
        rand_augment="rand-m9-mstd0.5-inc1",
        mixup=0.8,
        cutmix=1.0,
        erasing=0.25,
        label_smoothing=0.1,
        repeats=3,
        drop_path=0.1,
    ),
}


class TrainSettings(BaseModel):
    """A whole training.

    Attributes:
        model: ``NAME[:key=value,...]``.
        imports: SHA-256 of every file that added networks, by its name as given.
        data: the folder of the splits.
        train_split: its sub-folder to train on.
        validation_split: its sub-folder to validate on; None for ``val`` or ``validation``.
        recipe: all hyperparameters.
        init: starting weights, see :func:`lfvit_cli.training.initialise.initialise`.
        teacher: a network to learn from, as ``NAME[:key=value,...]``.
        teacher_checkpoint: its weights.
        precision: of the forward passes; the weights are float32.
        device: ``auto`` for the best there is, ``cpu``, ``cuda`` or ``mps``; launchers choose among several GPUs.
        seed: of everything drawn at random.
        threads: CPU threads; None for PyTorch's choice.
        workers: processes that decode photos that do not fit into memory.
        save_dtype: number type of the final file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    imports: dict[str, str] = Field(default_factory=dict)
    data: Path
    train_split: str = "train"
    validation_split: str | None = None
    recipe: Recipe
    init: str | None = None
    teacher: str | None = None
    teacher_checkpoint: str | None = None
    precision: Precision = "bfloat16"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = 0
    threads: int | None = Field(None, ge=1)
    workers: int = Field(4, ge=0)
    save_dtype: Literal["float32", "float16"] = "float32"

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Names of the settings in which another training, as JSON data, would learn something else.

        Imported code counts by what it is, not by the name it was given by.
        """
        theirs: dict[str, str] = other.get("imports", {})
        changed = [source for source, sha256 in self.imports.items() if sha256 not in theirs.values()]
        changed += [source for source, sha256 in theirs.items() if sha256 not in self.imports.values()]
        settings = sorted(_differing(self.model_dump(mode="json"), other))
        return settings + [f"the code of {source}" for source in dict.fromkeys(changed)]


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    for name in (ours.keys() | theirs.keys()) - _HARMLESS:
        one, two = ours.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _differing(one, two)
        elif one != two:
            yield name
