"""What every stage of a network answers to a batch, as columns of the predictions table."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfvit_cli.errors import MeasureError
from lfvit_cli.evaluation.shards import Columns
from lfvit_cli.networks.exits import measure
from lfvit_cli.policies import Criterion
from lfvit_cli.runtime.runner import Runner


@torch.inference_mode()
def answer_all_stages(runner: Runner, images: Tensor, labels: Tensor, *, keep_logits: bool) -> dict[str, Tensor]:
    """Run every stage on every image, whatever its confidence.

    Args:
        runner: the network, ready.
        images: (B, 3, S, S), normalised, on the runner's device.
        labels: int64 (B,), on the runner's device; -1 where unknown.
        keep_logits: whether the logits are among the columns, as float16 (B, K).

    Returns:
        Columns named ``{stage}_{what}``, on the runner's device.
    """
    columns: dict[str, Tensor] = {}
    for stage, output in zip(runner.names, runner(images, None).outputs, strict=True):
        described = describe(output.logits, labels)
        if keep_logits:
            described["logits"] = output.logits.half()
        columns |= {f"{stage}_{name}": values for name, values in described.items()}
    return columns


def describe(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Describe (B, K) logits by (B,) columns: prediction, every exit criterion by its name, and top5."""
    # One ranking for both, so that a right prediction is always a hit among the five, ties or not.
    ranking = logits.float().topk(min(5, logits.shape[-1]), dim=-1).indices
    criteria = {criterion.column: measure(criterion, logits) for criterion in Criterion}
    return {"prediction": ranking[:, 0], **criteria, "top5": (ranking == labels[:, None]).any(dim=-1)}


def to_columns(batches: list[dict[str, Tensor]]) -> Columns:
    """Join the columns of batches and bring them to the CPU, which waits for the device only here."""
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
