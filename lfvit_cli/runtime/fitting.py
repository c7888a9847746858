"""A stage whose batch is halved where memory runs out; what is already answered is kept."""

from typing import Any

import torch
from torch import Tensor

from lfvit_cli.networks.stages import Output, join_rows
from lfvit_cli.runtime.devices import is_out_of_memory
from lfvit_cli.runtime.graphs import Run, copied


class FittingStage:
    """Runs a stage in as few parts as fit in memory.

    Args:
        run: called with images and the state before, None for the first stage.

    Attributes:
        limit: most rows at once, as far as memory has told; None while everything has fitted.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.limit: int | None = None

    def __call__(self, images: Tensor, state: Any) -> Output:
        """Answer a batch: images (B, 3, S, S), and the output of the stage before.

        Raises:
            RuntimeError: not even one row fits; see :func:`is_out_of_memory`.
        """
        parts: list[Output] = []
        done, rows = 0, len(images)
        while done < rows:
            size = min(rows - done, self.limit or rows)
            answer = self._try(slice(done, done + size), images, state)
            if answer is None:
                self.limit = size // 2
                continue
            parts.append(answer)
            done += size
        return join_rows(parts)

    def _try(self, rows: slice, images: Tensor, state: Output | None) -> Output | None:
        """The answer for some rows; None where memory runs out and fewer rows may fit."""
        size = rows.stop - rows.start
        try:
            if size == len(images):
                return self.run(images, state)
            answer = self.run(images[rows], None if state is None else state[rows])
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        else:
            # A recording's memory is used again by the next part.
            return copied(answer)
        if images.is_cuda:
            torch.cuda.empty_cache()
        return None
