"""Speed from files to answers: reading, decoding and transfer run beside the network, and are timed with it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from lfvit_cli.bench.timing import Contender
from lfvit_cli.images.streaming import stream_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.runtime.devices import synchronise


def time_end_to_end(
    contender: Contender, files: Sequence[Path], transform: TransformSettings, batch_size: int
) -> float:
    """Images/s of one contender over some files, from the first read to the last answer.

    The pixels travel as bytes, from pinned memory on a GPU, and are normalised on the device.
    """
    runner = contender.runner
    runner.settle()
    pinned = runner.device.type == "cuda"

    def batches() -> Iterator[Tensor]:
        for pixels in stream_photos(files, transform, batch_size, pinned=pinned):
            yield runner.place(normalise(pixels, transform, dtype=runner.dtype, device=runner.device))

    synchronise(runner.device)
    began = time.perf_counter()
    contender.schedule.answer(runner, batches(), contender.policy)
    synchronise(runner.device)
    return len(files) / (time.perf_counter() - began)
