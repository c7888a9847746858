"""One evaluation made ready: what is asked, the network, the images, and what earlier runs have done of it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.files import Shards, identity_hash, predictions_file, read_finished, weights_sha256
from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata
from lfvit_cli.images.sources import Source, open_source
from lfvit_cli.images.transforms import TransformSettings
from lfvit_cli.networks.build import build, count_classes, evaluation_settings
from lfvit_cli.networks.method import default_criterion
from lfvit_cli.networks.stages import stage_names
from lfvit_cli.records import Facts, capture_environment
from lfvit_cli.runtime.devices import choose_device, choose_dtype
from lfvit_cli.runtime.processes import Processes, join_processes

MOST_WORKERS = 8


class EvaluationSettings(Facts):
    """What is evaluated, and how the machine is used.

    Attributes:
        model: ``NAME[:key=value,...]``.
        checkpoint: weights to load; None for random ones.
        imports: SHA-256 of every file that added networks, by its name as given.
        data: a folder of images, or a data set of timm's factory; see ``open_source``.
        data_root: where a data set of timm's factory lies.
        split: a sub-folder of the data, or the data set's split.
        class_map: a file with the index of every class.
        transform: what differs from the model's own evaluation transform, by name in ``TransformSettings``.
        batch_size: images a batch.
        device: where the network runs; ``auto`` for the best there is.
        dtype: precision of the network.
        workers: processes that decode, for each that computes; None for one per core, at most 8.
        threads: CPU threads; None for PyTorch's choice.
        limit: maximum number of images.
        seed: of which images those are, and of random weights.
        logits: whether the logits are kept.
    """

    model: str
    checkpoint: str | None = None
    imports: dict[str, str] = Field(default_factory=dict)
    data: str
    data_root: Path | None = None
    split: str | None = None
    class_map: Path | None = None
    transform: dict[str, float | str | tuple[float, ...]] = Field(default_factory=dict)
    batch_size: int = Field(64, ge=1)
    device: str = "auto"
    dtype: str = "float32"
    workers: int | None = Field(None, ge=0)
    threads: int | None = Field(None, ge=1)
    limit: int | None = None
    seed: int = 0
    logits: bool = False


@dataclass(frozen=True, eq=False)
class EvaluationJob:
    """An evaluation ready to run, or found to be done.

    Attributes:
        settings: what was asked.
        path: where the predictions go.
        facts: the circumstances of the table, but for the MACs.
        warnings: what to know before trusting the answers.
        finished: the table of an earlier run of the same evaluation; None without one.
        missing: the shards still to do, in all processes.
        processes: this process among those that share the work.
        shards: where its parts are saved.
        source: the images.
        network: in evaluation mode, on the CPU.
        transform: how the images are prepared.
        device: where this process computes.
        dtype: precision of the network.
    """

    settings: EvaluationSettings
    path: Path
    facts: PredictionsMetadata
    warnings: tuple[str, ...]
    finished: Predictions | None
    missing: tuple[int, ...]
    processes: Processes
    shards: Shards
    source: Source
    network: nn.Module
    transform: TransformSettings
    device: torch.device
    dtype: torch.dtype

    @property
    def done(self) -> int:
        """Images that earlier runs have evaluated."""
        return len(self.source) - sum(len(self.shards.positions(shard)) for shard in self.missing)

    @property
    def classes(self) -> int:
        """Classes that the network answers."""
        return count_classes(self.network)

    @property
    def workers(self) -> int:
        """Processes that decode for this one."""
        if self.settings.workers is not None:
            return self.settings.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(MOST_WORKERS, cores // self.processes.count))


def prepare(
    settings: EvaluationSettings,
    output: Path,
    *,
    fresh: bool = False,
    check: Callable[[tuple[str, ...]], object] | None = None,
) -> EvaluationJob:
    """Build the network, open the images, and find what earlier runs have done; all processes of a launch together.

    Args:
        settings: what to evaluate, and how.
        output: a ``.parquet`` file, or a folder for one named by the model and a hash.
        fresh: begin anew, and replace what is there.
        check: called with the names of the network's stages before anything is written; it may raise.

    Raises:
        UserError: see :func:`lfvit_cli.evaluation.run.evaluate`.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    processes = join_processes()
    return processes.together(lambda: _prepare(settings, output, fresh, processes, check))


def check_labels(labels: Sequence[int], classes: int) -> None:
    """Raise MeasureError where a label is not one of the network's classes, 0 to ``classes`` - 1."""
    highest = max(labels, default=0)
    if highest >= classes:
        raise MeasureError(
            f"the images have labels up to {highest}, and the model answers the classes 0 to {classes - 1}",
            "Choose a model or checkpoint for these classes, or give the --class-map that belongs to it.",
        )


def _prepare(
    settings: EvaluationSettings,
    output: Path,
    fresh: bool,
    processes: Processes,
    check: Callable[[tuple[str, ...]], object] | None,
) -> EvaluationJob:
    device = _choose_device(settings.device, processes)
    dtype = choose_dtype(settings.dtype, device)
    torch.manual_seed(settings.seed)
    network = build(settings.model, checkpoint=settings.checkpoint)
    if check is not None:
        check(stage_names(network))
    transform = TransformSettings.model_validate(evaluation_settings(network) | settings.transform)
    source = _open(settings, transform)
    check_labels(source.labels or (), count_classes(network))
    facts = _facts(settings, network, transform, source, device)
    path = predictions_file(output, facts, logits=settings.logits)
    finished = None if fresh else read_finished(path, facts, logits=settings.logits)
    work = identity_hash(facts, logits=settings.logits, batch_size=settings.batch_size, device=device.type)
    shards = Shards(path.with_name(f"{path.stem}.{work[:8]}.parts"), len(source), settings.batch_size)
    if processes.is_main and fresh:
        shards.remove()
    if processes.is_main and finished is None:
        shards.create()
    missing = tuple(range(len(shards)) if fresh else shards.missing())
    warnings = _warnings(settings, network, source)
    return EvaluationJob(
        settings, path, facts, warnings, finished, missing, processes, shards, source, network, transform, device, dtype
    )


def _choose_device(name: str, processes: Processes) -> torch.device:
    device = choose_device(name)
    if device.type == "cuda" and device.index is None and processes.count > 1:
        device = choose_device(f"cuda:{processes.local_index}")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def _open(settings: EvaluationSettings, transform: TransformSettings) -> Source:
    return open_source(
        settings.data,
        transform,
        root=settings.data_root,
        split=settings.split,
        class_map=settings.class_map,
        limit=settings.limit,
        seed=settings.seed,
    )


def _facts(
    settings: EvaluationSettings,
    network: nn.Module,
    transform: TransformSettings,
    source: Source,
    device: torch.device,
) -> PredictionsMetadata:
    names, classes = source.class_names, count_classes(network)
    return PredictionsMetadata(
        model=settings.model,
        stages=stage_names(network),
        # A class without a name in the data is named by its index.
        classes=(*names, *map(str, range(len(names), classes)))[:classes],
        checkpoint_hash=weights_sha256(settings.checkpoint, network),
        listing_hash=source.sha256,
        transform_hash=transform.sha256,
        transform=transform.model_dump(mode="json"),
        dtype=settings.dtype,
        device=str(device),
        trained=settings.checkpoint is not None,
        criterion=default_criterion(settings.model),
        imports=settings.imports,
        environment=capture_environment(str(device)),
    )


def _warnings(settings: EvaluationSettings, network: nn.Module, source: Source) -> tuple[str, ...]:
    if settings.checkpoint is None:
        return (f"{settings.model} has random weights: its costs are real, its answers are not; give --checkpoint",)
    named, classes = len(source.class_names), count_classes(network)
    if settings.class_map is None and 0 < named < classes:
        mismatch = f"the model answers {classes} classes and the data name {named}"
        return (f"{mismatch}: a folder's rank is taken as its label, which may not be the model's; see --class-map",)
    return ()
