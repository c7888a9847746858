"""A stage at one batch shape, recorded once and replayed without Python in between."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lfvit_cli.networks.stages import Output, State

WARM_UPS = 3
FINE_STEPS = 32  # numbers of rows up to here are rounded to powers of two, beyond to multiples of it

# Images (B, 3, S, S) and the output of the stage before, None for the first, to this stage's output.
Run = Callable[[Tensor, Any], Output]
# Runs work on memory that stays where it is; returns its output, and what refreshes that output in place.
Capture = Callable[[Callable[[], Output]], tuple[Output, Callable[[], None]]]


def copied(output: State) -> State:
    """The same output in memory of its own: what a recorded stage answers stands only until it is replayed."""
    own: State = pytree.tree_map_only(Tensor, torch.clone, output)
    return own


def cuda_capture(work: Callable[[], Output]) -> tuple[Output, Callable[[], None]]:
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
        run: the stage's.
        capture: :func:`cuda_capture`, or another way of running the same work again on the same memory.
    """

    def __init__(self, run: Run, capture: Capture) -> None:
        self._run, self._capture = run, capture
        self._recordings: dict[int, _Recording] = {}

    def __call__(self, images: Tensor, state: Any) -> Output:
        """Answer a batch: images (B, 3, S, S), and the output of the stage before."""
        size = rounded_up(len(images))
        if size not in self._recordings:
            self._recordings[size] = _Recording(self._run, self._capture, images, state, size)
        return self._recordings[size](images, state)


def rounded_up(rows: int) -> int:
    """The batch that so many rows are recorded at: a power of two up to 32, then a multiple of 32."""
    if rows <= FINE_STEPS:
        return 1 << (rows - 1).bit_length()
    return -(-rows // FINE_STEPS) * FINE_STEPS


class _Recording:
    """One recording; its inputs are a tree of tensors that stay where they are."""

    def __init__(self, run: Run, capture: Capture, images: Tensor, state: Output | None, size: int) -> None:
        self._inputs = pytree.tree_map_only(Tensor, lambda tensor: _repeated(tensor, size), (images, state))
        self._output, self._replay = capture(lambda: run(*self._inputs))

    def __call__(self, images: Tensor, state: Output | None) -> Output:
        rows = len(images)
        for target, source in zip(*map(pytree.tree_leaves, (self._inputs, (images, state))), strict=True):
            if isinstance(target, Tensor):
                target[:rows].copy_(source)
        self._replay()
        return self._output[slice(rows)]


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    """A new tensor of so many rows, filled with those given over and over."""
    return tensor[torch.arange(rows, device=tensor.device) % len(tensor)]
