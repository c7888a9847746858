"""One training made ready: devices, network, starting weights, teacher, photos, optimizer."""

import atexit
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import is_tensorboard_available
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from lfvit_cli.errors import TrainingError
from lfvit_cli.images.transforms import TransformSettings
from lfvit_cli.networks.build import build, count_classes, evaluation_settings, parse_spec
from lfvit_cli.networks.method import Method, method_of
from lfvit_cli.networks.stages import stage_names
from lfvit_cli.records import Progress
from lfvit_cli.runtime.devices import choose_device
from lfvit_cli.training.augment import Augmentation
from lfvit_cli.training.data import PhotoStore, Splits, list_splits, open_photos, stored_size, updates_an_epoch
from lfvit_cli.training.initialise import Initialisation, initialise
from lfvit_cli.training.objective import ObjectiveSettings
from lfvit_cli.training.objectives import objective_for
from lfvit_cli.training.settings import Recipe, TrainSettings

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
FIRST_LR = 0.01


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A training ready to start.

    Attributes:
        settings: what was asked.
        output: folder of its results.
        accelerator: device, precision, accumulation, processes.
        network: with its starting weights; shares its parameters with the objective.
        method: that it belongs to; None for any other network of timm's.
        objective: the network and its loss, as Accelerate has prepared it.
        ema: the moving average of the network; None without one.
        teacher: in evaluation mode; None without one.
        initialisation: where the starting weights come from.
        splits: the photos' files.
        transform: how images are prepared at evaluation.
        train: the photos to train on.
        validation: the photos to validate on, as at evaluation.
        augmentation: what happens to the former.
        optimizer: as Accelerate has prepared it.
        scheduler: of the learning rate, by update.
        updates_an_epoch: updates of the weights in an epoch.
    """

    settings: TrainSettings
    output: Path
    accelerator: Any
    network: nn.Module
    method: Method | None
    objective: nn.Module
    ema: Any
    teacher: nn.Module | None
    initialisation: Initialisation
    splits: Splits
    transform: TransformSettings
    train: PhotoStore
    validation: PhotoStore
    augmentation: Augmentation
    optimizer: Any
    scheduler: Any
    updates_an_epoch: int

    @property
    def recipe(self) -> Recipe:
        """All hyperparameters."""
        return self.settings.recipe

    @property
    def photos_an_update(self) -> int:
        """Over all processes and accumulated passes."""
        return self.recipe.batch_size * self.recipe.accumulate * int(self.accelerator.num_processes)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and saved: the moving average where there is one."""
        return self.network if self.ema is None else cast(nn.Module, self.ema.module)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Why photos were left out."""
        return self.train.unreadable + self.validation.unreadable

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the network's stages."""
        return stage_names(self.network)

    @property
    def loss(self) -> str:
        """What is trained on, in a few words."""
        if self.method is not None and self.method.training:
            return self.method.training
        return "the cross entropy" if len(self.stages) == 1 else "the mean over stages of the cross entropy"


def prepare(settings: TrainSettings, output: Path, report: Progress) -> TrainingJob:
    """Build and load everything that a training needs.

    Args:
        settings: what is asked.
        output: folder of the results.
        report: called with (photos decoded, photos in all, what is being done).

    Raises:
        ValueError: what is asked cannot be had; with a problem and a remedy.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    recipe = settings.recipe
    splits = list_splits(settings.data, settings.train_split, settings.validation_split)
    torch.manual_seed(settings.seed)
    method = method_of(parse_spec(settings.model)[0])
    network = build(_with_drop_path(settings.model, recipe.drop_path), num_classes=len(splits.train.class_names))
    initialisation = initialise(network, settings.init, method)
    transform = TransformSettings.model_validate(evaluation_settings(network))
    objective = objective_for(network, _objective_settings(recipe), method)
    teacher = _teacher(settings, objective, transform, len(splits.train.class_names))
    accelerator = _accelerator(settings, objective, output)
    train, validation = _open(settings, splits, transform, accelerator.device, report)
    updates = _updates_an_epoch(len(train), recipe, accelerator.num_processes)
    optimizer = make_optimizer(network, recipe, accelerator.num_processes)
    scheduler = make_scheduler(optimizer, recipe, updates)
    prepared, prepared_optimizer = accelerator.prepare(objective, optimizer)
    # What the network draws, such as dropped paths, differs between processes.
    torch.manual_seed(settings.seed + accelerator.process_index)
    return TrainingJob(
        settings=settings,
        output=output,
        accelerator=accelerator,
        network=network.to(accelerator.device),
        method=method,
        objective=prepared,
        ema=None if recipe.ema_decay is None else ModelEmaV3(network, decay=recipe.ema_decay),
        teacher=None if teacher is None else teacher.to(accelerator.device),
        initialisation=initialisation,
        splits=splits,
        transform=transform,
        train=train,
        validation=validation,
        augmentation=Augmentation(recipe, transform, len(splits.train.class_names)),
        optimizer=prepared_optimizer,
        scheduler=scheduler,
        updates_an_epoch=updates,
    )


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, updates_an_epoch: int) -> Any:
    """A linear warm-up, then a cosine down to the final rate, update by update."""
    total = recipe.epochs * updates_an_epoch
    warmup = round(recipe.warmup * total)
    peak = float(optimizer.param_groups[0]["lr"])
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, total - warmup),
        lr_min=peak * recipe.final_lr,
        warmup_t=warmup,
        warmup_lr_init=peak * FIRST_LR,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def make_optimizer(network: nn.Module, recipe: Recipe, processes: int) -> torch.optim.Optimizer:
    """Timm's optimizer by name, with the recipe's rates and decays.

    Raises:
        TrainingError: timm has no such optimizer.
    """
    if recipe.optimizer.lower() not in list_optimizers():
        raise TrainingError(f"timm has no optimizer {recipe.optimizer!r}", "Use one of timm's, such as adamw or sgd.")
    made: torch.optim.Optimizer = create_optimizer_v2(
        network,
        opt=recipe.optimizer,
        lr=recipe.peak_lr(recipe.batch_size * recipe.accumulate * processes),
        weight_decay=recipe.weight_decay,
        layer_decay=None if recipe.layer_decay == 1 else recipe.layer_decay,
    )
    return made


def _with_drop_path(spec: str, rate: float) -> str:
    if not rate or "drop_path_rate" in parse_spec(spec)[1]:
        return spec
    return f"{spec}{',' if ':' in spec else ':'}drop_path_rate={rate}"


def _objective_settings(recipe: Recipe) -> ObjectiveSettings:
    return ObjectiveSettings(recipe.distillation, recipe.temperature, recipe.alpha, recipe.final_form_from)


def _teacher(
    settings: TrainSettings, objective: nn.Module, transform: TransformSettings, classes: int
) -> nn.Module | None:
    if settings.teacher is None:
        return None
    if settings.recipe.distillation == "none" and not getattr(objective, "has_own_distillation", False):
        raise TrainingError("this recipe learns nothing from a teacher", "Add --distillation soft, or hard.")
    if settings.teacher_checkpoint is None:
        raise TrainingError(f"the teacher {settings.teacher} has no weights", "Add --teacher-checkpoint.")
    teacher = build(settings.teacher, checkpoint=settings.teacher_checkpoint)
    if count_classes(teacher) != classes:
        raise TrainingError(
            f"the teacher answers {count_classes(teacher)} classes, and the photos have {classes}",
            "Train it on these photos first.",
        )
    seen = TransformSettings.model_validate(evaluation_settings(teacher))
    if (seen.image_size, seen.mean, seen.std) != (transform.image_size, transform.mean, transform.std):
        raise TrainingError(
            "teacher and student take images of different size or normalisation", "Choose another --teacher."
        )
    return teacher.requires_grad_(False)


def _accelerator(settings: TrainSettings, objective: Any, output: Path) -> Any:
    device = choose_device(settings.device)
    if settings.precision == "float16" and device.type != "cuda":
        raise TrainingError(f"{device} cannot train in float16", "Use --precision bfloat16, or float32.")
    sometimes_unused = not getattr(objective, "always_whole", True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=MIXED[settings.precision],
        gradient_accumulation_steps=settings.recipe.accumulate,
        log_with="tensorboard" if is_tensorboard_available() else None,
        project_dir=output,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=sometimes_unused)],
    )
    accelerator.init_trackers("tensorboard")
    if accelerator.num_processes > 1:
        atexit.register(PartialState().destroy_process_group)
    return accelerator


def _updates_an_epoch(photos: int, recipe: Recipe, processes: int) -> int:
    if recipe.batch_size % 2 and (recipe.mixup or recipe.cutmix):
        raise TrainingError("mixup needs photos in pairs", "Choose an even --batch-size.")
    return updates_an_epoch(photos, recipe.batch_size * recipe.accumulate * processes)


def _open(
    settings: TrainSettings, splits: Splits, transform: TransformSettings, device: torch.device, report: Progress
) -> tuple[PhotoStore, PhotoStore]:
    train = open_photos(
        splits.train,
        stored_size(transform),
        device,
        settings.workers,
        lambda done, total: report(done, total, "training photos"),
    )
    validation = open_photos(
        splits.validation,
        transform,
        device,
        settings.workers,
        lambda done, total: report(done, total, "validation photos"),
    )
    return train, validation
