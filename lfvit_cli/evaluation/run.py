"""The evaluation: every stage's answer to every image, once, into a predictions table."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch import Tensor

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import ImagesError, MeasureError
from lfvit_cli.evaluation.answers import answer_all_stages, from_columns, mean_macs, skipped_columns, to_columns
from lfvit_cli.evaluation.job import EvaluationJob, EvaluationSettings, check_labels, prepare
from lfvit_cli.evaluation.table import Predictions, PredictionsMetadata, read_predictions, write_predictions
from lfvit_cli.images.dataset import Batch
from lfvit_cli.images.loading import UnreadablePhoto
from lfvit_cli.images.transforms import normalise
from lfvit_cli.records import Progress
from lfvit_cli.runtime.devices import is_out_of_memory
from lfvit_cli.runtime.runner import Runner


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished evaluation.

    Attributes:
        path: the predictions file.
        predictions: what is in it, but for the logits.
        skipped: number of images that could not be read and have no row.
        unreadable: which, and why; empty where an earlier run made the file, or in a process that is not the main one.
    """

    path: Path
    predictions: Predictions
    skipped: int
    unreadable: tuple[UnreadablePhoto, ...] = ()


def evaluate(settings: EvaluationSettings, output: Path, progress: Progress, *, fresh: bool = False) -> Evaluation:
    """Evaluate a network on images, or take up what earlier runs of the same evaluation have done.

    Args:
        settings: what to evaluate, and how.
        output: a ``.parquet`` file, or a folder for one named by the model and a hash.
        progress: called with (done, total, message) as the work goes on.
        fresh: begin anew, and replace what is there.

    Raises:
        NetworkError: a model that cannot be built, or a checkpoint that does not fit.
        ImagesError: no readable image.
        RuntimeSettingError: a device or precision that this machine lacks.
        MeasureError: labels beyond the classes, another evaluation in the file, answers that are not finite, or too
            large a batch.
        OSError: the folder cannot be written.
    """
    return run(prepare(settings, output, fresh=fresh), progress)


def run(job: EvaluationJob, progress: Progress) -> Evaluation:
    """Evaluate what a job still lacks and write the table; each process does its share, and the main one writes.

    The errors are those of :func:`evaluate`.
    """
    if job.finished is not None:
        return Evaluation(job.path, job.finished, len(job.source) - len(job.finished))
    processes = job.processes
    # Counted before the work, so that a network that cannot be counted fails at once.
    macs = tuple(stage.macs for stage in count_stages(job.settings.model, job.network)) if processes.is_main else ()
    _fill_shards(job, progress)
    processes.gather("all shards are saved")
    facts = job.facts.model_copy(update={"macs": macs})
    unreadable = processes.together(lambda: _write_table(job, facts) if processes.is_main else ())
    predictions = read_predictions(job.path, labelled=False)
    return Evaluation(job.path, predictions, len(job.source) - len(predictions), unreadable)


def _fill_shards(job: EvaluationJob, progress: Progress) -> None:
    """Evaluate and save this process's share of the missing shards, one by one."""
    share = job.processes.share(job.missing)
    total, done = sum(len(job.shards.positions(shard)) for shard in share), 0
    what = "images" if job.processes.count == 1 else f"images in each of {job.processes.count} processes"
    runner = Runner(job.network, job.device, job.dtype)
    places = job.shards.batches(share)
    batches = job.source.batches(places, workers=job.workers, pinned=job.device.type == "cuda")
    unsaved = set(share)
    for shard, group in groupby(batches, key=lambda batch: job.shards.of(_first_position(batch))):
        answered, skipped = list[dict[str, Tensor]](), list[tuple[int, str]]()
        for batch in group:
            skipped += zip(batch.unreadable, batch.reasons, strict=True)
            if len(batch.labels):
                answered.append(_answer(job, runner, batch))
            done += len(batch.labels) + len(batch.unreadable)
            progress(done, total, what)
        job.shards.save(shard, {**to_columns(answered), **skipped_columns(skipped)})
        unsaved.remove(shard)
    for shard in sorted(unsaved):
        # A stream that ended before the number of images it promised.
        job.shards.save(shard, {})


def _first_position(batch: Batch) -> int:
    return min(int(position) for position in (*batch.positions[:1], *batch.unreadable[:1]))


def _answer(job: EvaluationJob, runner: Runner, batch: Batch) -> dict[str, Tensor]:
    """One batch's rows of the table."""
    check_labels(batch.labels.tolist(), job.classes)
    images = normalise(batch.pixels, job.transform, dtype=job.dtype, device=job.device)
    labels = batch.labels.to(job.device, non_blocking=True)
    try:
        answers = answer_all_stages(runner, images, labels, keep_logits=job.settings.logits)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = job.settings.batch_size
        raise MeasureError(f"a batch of {size} does not fit in memory", "Choose a smaller --batch-size.") from error
    return {"position": batch.positions, "label": batch.labels, **answers}


def _write_table(job: EvaluationJob, facts: PredictionsMetadata) -> tuple[UnreadablePhoto, ...]:
    """Join the shards into the table, and remove them; return which images could not be read."""
    columns, names = job.shards.load(), job.source.names
    skipped = zip(columns.get("unreadable", ()), columns.get("reason", ()), strict=True)
    unreadable = tuple(UnreadablePhoto(names[position], str(reason)) for position, reason in skipped)
    if "position" not in columns:
        job.shards.remove()
        first = f": {unreadable[0].reason}" if unreadable else ""
        raise ImagesError(
            f"none of the {len(names)} images can be read{first}", "Check that the files are whole images."
        )
    logits = {stage: columns[f"{stage}_logits"] for stage in facts.stages if job.settings.logits}
    write_predictions(job.path, from_columns(columns, names, mean_macs(columns, facts)), logits=logits)
    job.shards.remove()
    return unreadable
