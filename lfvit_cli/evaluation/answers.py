"""What every stage of a network answers: from the logits of a batch to columns, and from columns to the table."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.files import Columns
from lfvit_cli.evaluation.table import UNKNOWN_LABEL, Predictions, PredictionsMetadata, StageAnswers
from lfvit_cli.networks.exits import measure
from lfvit_cli.policies import Criterion
from lfvit_cli.runtime.runner import Runner


@torch.inference_mode()
def answer_all_stages(runner: Runner, images: Tensor, labels: Tensor, *, keep_logits: bool) -> dict[str, Tensor]:
    """Run every stage on every image, whether or not an earlier answer would stand.

    Args:
        runner: the network, ready.
        images: (B, 3, S, S), normalised, on the runner's device.
        labels: int64 (B,), on the runner's device; -1 where unknown.
        keep_logits: whether the logits are among the columns, as float16 (B, K).

    Returns:
        Columns named ``{stage}_{what}``, on the runner's device; ``macs`` among them where images differ in them.
    """
    columns: dict[str, Tensor] = {}
    for stage, output in zip(runner.stages, runner(images, None).outputs, strict=True):
        described = describe(output.logits, labels)
        if keep_logits:
            described["logits"] = output.logits.half()
        if stage.macs is not None:
            described["macs"] = stage.macs(output)
        columns |= {f"{stage.name}_{name}": values for name, values in described.items()}
    return columns


def describe(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """(B, K) logits to (B,) columns: the prediction, every exit criterion, and whether the five best hold the label."""
    # One ranking for both, so that a right prediction is always a hit among the five, ties or not.
    ranking = logits.float().topk(min(5, logits.shape[-1]), dim=-1).indices
    criteria = {criterion.column: measure(criterion, logits) for criterion in Criterion}
    return {"prediction": ranking[:, 0], **criteria, "top5": (ranking == labels[:, None]).any(dim=-1)}


def to_columns(batches: list[dict[str, Tensor]]) -> Columns:
    """Join the columns of batches and bring them to the CPU, which waits for the device only here.

    Raises:
        MeasureError: a stage answers with infinities, or with what is no number.
    """
    names = batches[0] if batches else {}
    columns: dict[str, NDArray[Any]] = {
        name: torch.cat([batch[name] for batch in batches]).cpu().numpy() for name in names
    }
    for name, values in columns.items():
        if name.endswith("_confidence") and not np.isfinite(values).all():
            raise MeasureError(
                f"stage {name.removesuffix('_confidence')} answers with numbers that are not finite",
                "Use --dtype float32, or a checkpoint whose training did not diverge.",
            )
    return columns


def skipped_columns(skipped: Iterable[tuple[int, str]]) -> Columns:
    """Columns of the positions of images that could not be read, and why."""
    positions, reasons = zip(*skipped, strict=True) if skipped else ((), ())
    return {"unreadable": np.array(positions, dtype=np.int64), "reason": np.array(reasons, dtype=np.str_)}


def from_columns(columns: Columns, names: Sequence[str], facts: PredictionsMetadata) -> Predictions:
    """Make the table of all columns.

    Args:
        columns: of all batches, joined; ``position`` and ``label`` are among them.
        names: of the images, by position.
        facts: the circumstances.
    """
    return Predictions(
        images=np.array([_printable(names[position]) for position in columns["position"]], dtype=object),
        labels=columns["label"],
        stages={stage: _stage_answers(columns, stage) for stage in facts.stages},
        metadata=facts,
    )


def mean_macs(columns: Columns, counted: PredictionsMetadata) -> PredictionsMetadata:
    """The circumstances with the mean MACs of the images, for each stage in which images differ."""
    macs = tuple(
        round(float(columns[f"{stage}_macs"].mean())) if f"{stage}_macs" in columns else macs
        for stage, macs in zip(counted.stages, counted.macs or (), strict=True)
    )
    return counted.model_copy(update={"macs": macs})


def _printable(name: str) -> str:
    """A file's name as Unicode, with a mark for each byte that is none."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _stage_answers(columns: Columns, stage: str) -> StageAnswers:
    answers = StageAnswers(**{field.name: columns[f"{stage}_{field.name}"] for field in fields(StageAnswers)})
    # Without labels there is nothing to hit.
    return replace(answers, top5=None) if (columns["label"] == UNKNOWN_LABEL).all() else answers
