"""A staged network made ready to answer batches: on its device, in its precision, compiled or recorded or neither."""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from lfvit_cli.networks.staged import (
    EarlyExitOutput,
    StagedNetwork,
    StageOutput,
    confidence,
    goes_on,
    selection,
)
from lfvit_cli.runtime.compilation import CompiledStage, reason_of
from lfvit_cli.runtime.devices import is_out_of_memory
from lfvit_cli.runtime.fitting import FittingStage
from lfvit_cli.runtime.graphs import Capture, GraphedStage, rounded_up
from lfvit_cli.runtime.stopwatch import Stopwatch

EXIT, SELECTION = "exit", "selection"


@dataclass(frozen=True)
class Execution:
    """How a network is run.

    Attributes:
        compiled: its stages go through ``torch.compile``.
        capture: its stages are recorded by it at fixed batch shapes, and replayed.
        channels_last: images lie in memory pixel by pixel rather than colour by colour.
        threads: CPU threads; None leaves them as they are.
    """

    compiled: bool = False
    capture: Capture | None = None
    channels_last: bool = False
    threads: int | None = None


class Runner:
    """Runs one network; itself a staged network.

    Args:
        network: an ``nn.Module`` that satisfies StagedNetwork; copied, not changed.
        device: where it runs.
        dtype: the precision of its weights and activations; confidences are float32 in any.
        execution: how.

    Attributes:
        fallback: why its stages run neither compiled nor recorded although they should; None while they do.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype, execution: Execution | None = None
    ) -> None:
        self.network = copy.deepcopy(network).eval().to(device=device, dtype=dtype)
        self.device, self.dtype = device, dtype
        self.execution = execution or Execution()
        staged = cast(StagedNetwork, self.network)
        self.stages, self.image_size = staged.stages, staged.image_size
        self.fallback: str | None = None
        self._prepare()

    def _prepare(self) -> None:
        staged, how = cast(StagedNetwork, self.network), self.execution
        self.select = selection(self.network)
        begin: Any = staged.begin
        resume: Any = staged.resume
        if how.compiled:
            # For known numbers of rows in float32 a CPU's compiler takes MKL, which is slower than oneDNN on many CPUs.
            on_cpu = self.device.type == "cpu"
            begin = CompiledStage(begin, self.device, dynamic=on_cpu)
            # Recorded stages have few shapes; else the rows that go on vary in number from batch to batch.
            resume = CompiledStage(resume, self.device, dynamic=on_cpu or how.capture is None)
        if how.capture is not None:
            # A recording holds the selection as well.
            self.select = selection(nn.Identity())
            begin, resume = GraphedStage(begin, how.capture), GraphedStage(resume, how.capture)
        self._begin, self._resume = FittingStage(begin), FittingStage(resume)

    @property
    def limits(self) -> dict[str, int]:
        """The most rows at once of each stage that has run out of memory."""
        named = {self.stages[0]: self._begin.limit, "/".join(self.stages[1:]): self._resume.limit}
        return {name: limit for name, limit in named.items() if limit is not None}

    def begin(self, images: Tensor) -> StageOutput:
        """The first stage."""
        return self._begin(images)

    def resume(self, images: Tensor, state: StageOutput) -> StageOutput:
        """The stage after the one that answered ``state``."""
        return self._resume(images, state)

    def place(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) as they should lie in memory."""
        layout = torch.channels_last if self.execution.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)

    def settle(self) -> None:
        """Take the threads it should run with."""
        if self.execution.threads is not None:
            torch.set_num_threads(self.execution.threads)

    @torch.inference_mode()
    def __call__(self, images: Tensor, threshold: float, watch: Stopwatch | None = None) -> EarlyExitOutput:
        """Answer a batch at once, as :func:`lfvit_cli.networks.staged.early_exit` does.

        Args:
            images: (B, 3, S, S), already on the device and normalised.
            threshold: confidence from which a stage's answer stands.
            watch: times the phases: every stage by its name, ``exit`` and ``selection``.
        """
        watch = watch or Stopwatch(self.device)
        with watch.phase(self.stages[0]):
            output = self.begin(images)
        # What a recorded stage answers stands only until it is replayed.
        logits = output.logits.clone()
        exit_stage = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        rows = torch.arange(len(logits), device=logits.device)
        for stage, name in enumerate(self.stages[1:], start=1):
            with watch.phase(EXIT):
                staying = goes_on(output.logits, threshold).nonzero().squeeze(1)
            if not len(staying):
                break
            with watch.phase(SELECTION):
                rows, output = rows[staying], self.select(output[staying])
                chosen = images[rows]
            with watch.phase(name):
                output = self.resume(chosen, output)
            with watch.phase(EXIT):
                logits[rows], exit_stage[rows] = output.logits, stage
        return EarlyExitOutput(logits, exit_stage, exited=exit_stage < len(self.stages) - 1)

    @torch.inference_mode()
    def warm_up(self, images: Tensor) -> None:
        """Run every stage as it will be run; where it cannot be compiled or recorded, do so no longer.

        Args:
            images: a batch as they will come.
        """
        self.settle()
        try:
            self._run_all(images)
        except Exception as error:
            how = self.execution
            if is_out_of_memory(error) or not (how.compiled or how.capture):
                raise
            self.fallback = reason_of(error)
            self.execution = Execution(channels_last=how.channels_last, threads=how.threads)
            self._prepare()
            self._run_all(images)

    def _run_all(self, images: Tensor) -> None:
        """Every stage on the whole batch, and on fewer rows, which compilers and recordings treat apart."""
        counts = {1, min(2, len(images)), len(images)}
        if self.execution.capture:
            counts |= {min(rounded_up(count), len(images)) for count in range(1, len(images))}
        state = self.begin(images)
        for _ in self.stages[1:]:
            for count in sorted(counts):
                # Indexed as an exit indexes them, since a compiler also looks at how tensors lie in memory.
                rows = torch.arange(count, device=self.device)
                output = self.resume(images[rows], self.select(state[rows]))
            state = output

    @torch.inference_mode()
    def first_confidences(self, images: Tensor, batch_size: int) -> Tensor:
        """(N,) float32 confidence of the first stage for each image, batch by batch, on the CPU."""
        return torch.cat([confidence(self.begin(batch).logits).cpu() for batch in images.split(batch_size)])
