"""The trained network as one file that says what it is."""

from importlib import metadata
from pathlib import Path

import torch

from lfvit_cli.networks.build import parse_spec
from lfvit_cli.training.checkpoints import Header, save_final
from lfvit_cli.training.job import TrainingJob
from lfvit_cli.training.metrics import EpochMetrics

PACKAGES = ("lfvit", "torch", "timm", "accelerate")
DTYPES = {"float32": torch.float32, "float16": torch.float16}


def write_final(job: TrainingJob, last: EpochMetrics) -> Path:
    """Write the judged network to ``NAME.safetensors`` in the job's folder.

    Raises:
        TrainingError: the file cannot be written.
    """
    settings, classes = job.settings, job.splits.train.class_names
    name, keywords = parse_spec(settings.model)
    teacher = settings.teacher and f"{settings.teacher} with {settings.teacher_checkpoint}"
    header = Header(
        model=settings.model,
        keywords={**keywords, "num_classes": len(classes)},
        class_names=classes,
        transform=job.transform.model_dump(mode="json"),
        data_sha256=job.splits.train.sha256,
        validation_sha256=job.splits.validation.sha256,
        metrics=last.row(),
        recipe=settings.recipe.model_dump(mode="json"),
        initialisation=str(job.initialisation),
        teacher=teacher,
        seed=settings.seed,
        precision=settings.precision,
        versions={package: metadata.version(package) for package in PACKAGES},
    )
    path = job.output / f"{name}.safetensors"
    return save_final(path, job.judged.state_dict(), header, DTYPES[settings.save_dtype])
