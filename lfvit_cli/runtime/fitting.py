"""A stage whose batch is halved where memory runs out; what is already answered is kept."""

from collections.abc import Callable

import torch
from torch import Tensor

from lfvit_cli.networks.staged import StageOutput, join_rows
from lfvit_cli.runtime.devices import is_out_of_memory

Stage = Callable[..., StageOutput]


class FittingStage:
    """Runs a stage in as few parts as fit in memory.

    Args:
        stage: called with images, and with the state before unless it is the first stage.

    Attributes:
        limit: most rows at once, as far as memory has told; None while everything has fitted.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.limit: int | None = None

    def __call__(self, images: Tensor, *states: StageOutput) -> StageOutput:
        """Answer a batch: images (B, 3, S, S), and the output of the stage before.

        Raises:
            RuntimeError: not even one row fits; see :func:`is_out_of_memory`.
        """
        parts: list[StageOutput] = []
        done, rows = 0, len(images)
        while done < rows:
            size = min(rows - done, self.limit or rows)
            answer = self._try(slice(done, done + size), images, *states)
            if answer is None:
                self.limit = size // 2
                continue
            parts.append(answer)
            done += size
        return parts[0] if len(parts) == 1 else join_rows(parts)

    def _try(self, rows: slice, images: Tensor, *states: StageOutput) -> StageOutput | None:
        """The answer for some rows; None where memory runs out and fewer rows may fit."""
        size = rows.stop - rows.start
        try:
            if size == len(images):
                return self.stage(images, *states)
            answer = self.stage(images[rows], *(state[rows] for state in states))
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        else:
            # A recording's memory is used again by the next part.
            return join_rows([answer], lambda tensors: tensors[0].clone())
        if images.is_cuda:
            torch.cuda.empty_cache()
        return None
