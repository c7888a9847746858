"""A stage at one batch shape, recorded once and replayed without Python in between."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lfvit_cli.networks.staged import StageOutput, join_rows

WARM_UPS = 3
FINE_STEPS = 32  # numbers of rows up to here are rounded to powers of two, beyond to multiples of it

Output = TypeVar("Output", bound=StageOutput)
Stage = Callable[..., StageOutput]
# Runs work on memory that stays where it is; returns its output, and what refreshes that output in place.
Capture = Callable[[Callable[[], StageOutput]], tuple[StageOutput, Callable[[], None]]]


def cuda_capture(work: Callable[[], StageOutput]) -> tuple[StageOutput, Callable[[], None]]:
    """Record the kernels that the work starts, as a CUDA graph; its warm-up runs lie outside of it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()
    return output, graph.replay


class GraphedStage:
    """A stage that replays one recording for each batch shape.

    A smaller batch is put into the first rows of the next larger recording. What it answers lies in the recording's
    memory, and stands until that recording is replayed.

    Args:
        stage: called with images, and with the state before unless it is the first stage.
        capture: :func:`cuda_capture`, or another way of running the same work again on the same memory.
    """

    def __init__(self, stage: Stage, capture: Capture) -> None:
        self._stage, self._capture = stage, capture
        self._recordings: dict[int, _Recording] = {}

    def __call__(self, images: Tensor, *states: StageOutput) -> StageOutput:
        """Answer a batch: images (B, 3, S, S), and the output of the stage before."""
        size = rounded_up(len(images))
        if size not in self._recordings:
            self._recordings[size] = _Recording(self._stage, self._capture, images, states, size)
        return self._recordings[size](images, *states)


def rounded_up(rows: int) -> int:
    """The batch that so many rows are recorded at: a power of two up to 32, then a multiple of 32."""
    if rows <= FINE_STEPS:
        return 1 << (rows - 1).bit_length()
    return -(-rows // FINE_STEPS) * FINE_STEPS


class _Recording:
    def __init__(
        self, stage: Stage, capture: Capture, images: Tensor, states: tuple[StageOutput, ...], size: int
    ) -> None:
        self._images = _repeated(images, size)
        self._states = tuple(join_rows([state], lambda tensors: _repeated(tensors[0], size)) for state in states)
        self._output, self._replay = capture(lambda: stage(self._images, *self._states))

    def __call__(self, images: Tensor, *states: StageOutput) -> StageOutput:
        rows = len(images)
        self._images[:rows].copy_(images)
        for mine, given in zip(self._states, states, strict=True):
            for target, source in zip(mine.tensors(), given.tensors(), strict=True):
                target[:rows].copy_(source)
        self._replay()
        return self._output[slice(rows)]


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    """A new tensor of so many rows, filled with those given over and over."""
    return tensor[torch.arange(rows, device=tensor.device) % len(tensor)]
