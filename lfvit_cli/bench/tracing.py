"""A Chrome trace of one round of each contender, to be opened in a browser's tracing page or in Perfetto."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from lfvit_cli.bench.timing import Contender, batches_per_round
from lfvit_cli.files import replacing
from lfvit_cli.runtime.devices import synchronise
from lfvit_cli.runtime.stopwatch import Stopwatch

# The profiler's own library writes its progress to standard error.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def trace(contenders: Sequence[Contender], batch_size: int, folder: Path) -> list[Path]:
    """Profile a few batches of each contender, its phases by their names, and write a file for each.

    Args:
        contenders: warmed up.
        batch_size: images a batch.
        folder: made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for contender in contenders:
        runner = contender.runner
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (runner.device.type == "cuda")
        count = min(4, batches_per_round(batch_size, contender.schedule))
        batches = [runner.place(batch) for batch in contender.images.split(batch_size)[:count]]
        with profile(activities=activities, acc_events=True) as profiler:
            watch = Stopwatch(runner.device, traced=True)
            contender.schedule.answer(runner, batches, contender.policy, watch)
            synchronise(runner.device)
        rate = "" if contender.asked_rate is None else f"-exit-{contender.asked_rate:g}"
        files.append(folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', contender.name)}{rate}.trace.json")
        with replacing(files[-1]) as temporary:
            profiler.export_chrome_trace(str(temporary))
    return files
