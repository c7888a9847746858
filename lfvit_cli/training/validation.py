"""How often each stage is right on the validation photos."""

from typing import Any

import torch

from lfvit_cli.images.transforms import normalise
from lfvit_cli.training.job import TrainingJob
from lfvit_cli.training.objectives import stage_logits


@torch.no_grad()
def validate(job: TrainingJob) -> dict[str, float]:
    """Top-1 of every stage of the judged network, 0 to 1; the processes share the photos."""
    network, accelerator = job.judged, job.accelerator
    was_training = network.training
    network.eval()
    rows = torch.arange(accelerator.process_index, len(job.validation), accelerator.num_processes)
    counts = torch.zeros(len(job.stages) + 1, device=accelerator.device)
    for batch in job.validation.batches(rows.split(2 * job.recipe.batch_size)):
        with accelerator.autocast():
            answers = stage_logits(network, normalise(batch.pixels, job.transform))
        right = [(logits.argmax(dim=1) == batch.labels).sum() for logits in answers]
        counts += torch.stack([*right, torch.tensor(len(batch.labels), device=accelerator.device)])
    network.train(was_training)
    totals: Any = accelerator.reduce(counts, "sum").tolist()
    return {stage: right / max(1, totals[-1]) for stage, right in zip(job.stages, totals, strict=False)}
