"""Photos read, decoded and batched while those before them are used, as they come in practice."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from lfvit_cli.images.decode import decode_image, pillow_warnings_ignored
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform

BATCHES_AHEAD = 2


def stream_photos(
    files: Sequence[Path],
    settings: TransformSettings,
    batch_size: int,
    *,
    pinned: bool = False,
    workers: int | None = None,
) -> Iterator[Tensor]:
    """Decode files in threads, two batches ahead of their use.

    Args:
        files: of readable photos.
        settings: how they are resized and cropped.
        batch_size: photos a batch; the last may have fewer.
        pinned: whether the batches lie in memory from which a GPU copies fast.
        workers: decoding threads; by default as many as Python's thread pool thinks fit.

    Yields:
        uint8 (B, 3, S, S).

    Raises:
        UnreadableImageError: a file cannot be read after all.
    """
    transform = build_pixel_transform(settings)
    waiting: deque[list[Future[Tensor]]] = deque()
    with pillow_warnings_ignored(), ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files), batch_size):
            chosen = files[start : start + batch_size]
            waiting.append([pool.submit(lambda file=file: transform(decode_image(file))) for file in chosen])  # type: ignore[misc]
            if len(waiting) > BATCHES_AHEAD:
                yield _stacked(waiting.popleft(), pinned)
        while waiting:
            yield _stacked(waiting.popleft(), pinned)


def _stacked(decoded: list[Future[Tensor]], pinned: bool) -> Tensor:
    photos = [future.result() for future in decoded]
    batch = torch.empty((len(photos), *photos[0].shape), dtype=torch.uint8, pin_memory=pinned)
    return torch.stack(photos, out=batch)
