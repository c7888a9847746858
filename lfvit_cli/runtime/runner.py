"""A staged network made ready to answer batches: on its device, in its precision, compiled or not."""

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from lfvit_cli.networks.staged import EarlyExitOutput, StagedNetwork, StageOutput, confidence, early_exit


class Runner:
    """Runs one network; itself a staged network, whose stages may be compiled.

    Args:
        network: an ``nn.Module`` that satisfies StagedNetwork; copied, not changed.
        device: where it runs.
        dtype: the precision of its weights and activations; confidences are float32 in any.
        compiled: whether its stages go through ``torch.compile``.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype, compiled: bool = False) -> None:
        self.network = copy.deepcopy(network).eval().to(device=device, dtype=dtype)
        staged = cast(StagedNetwork, self.network)
        self.device, self.dtype = device, dtype
        self.stages, self.image_size = staged.stages, staged.image_size
        self.begin: Callable[[Tensor], StageOutput] = staged.begin
        self.resume: Callable[[Tensor, StageOutput], StageOutput] = staged.resume
        if compiled:
            self.begin = torch.compile(staged.begin)
            # The rows that go on vary in number from batch to batch.
            self.resume = torch.compile(staged.resume, dynamic=True)

    @torch.inference_mode()
    def __call__(self, images: Tensor, threshold: float) -> EarlyExitOutput:
        """Answer a batch (B, 3, S, S), already on the device and normalised; see :func:`early_exit`."""
        return early_exit(self, images, threshold)

    @torch.inference_mode()
    def warm_up(self, images: Tensor) -> None:
        """Run every stage once on the whole batch, and on one and two rows, which a compiler treats apart."""
        state = self.begin(images)
        for _ in self.stages[1:]:
            for count in sorted({1, min(2, len(images)), len(images)}):
                # Indexed as an exit indexes them, since a compiler also looks at how tensors lie in memory.
                rows = torch.arange(count, device=self.device)
                output = self.resume(images[rows], state[rows])
            state = output

    @torch.inference_mode()
    def first_confidences(self, images: Tensor, batch_size: int) -> Tensor:
        """(N,) float32 confidence of the first stage for each image, batch by batch, on the CPU."""
        return torch.cat([confidence(self.begin(batch).logits).cpu() for batch in images.split(batch_size)])
