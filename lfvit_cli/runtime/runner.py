"""A network made ready to answer batches: on its device, in its precision, compiled or recorded or neither."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lfvit_cli.networks.exits import measure
from lfvit_cli.networks.stages import Output, Stage, Walk, stages_of, walk
from lfvit_cli.policies import Criterion, ExitPolicy
from lfvit_cli.runtime.compilation import CompiledStage, reason_of
from lfvit_cli.runtime.devices import is_out_of_memory
from lfvit_cli.runtime.fitting import FittingStage
from lfvit_cli.runtime.graphs import Capture, GraphedStage, Run, copied, rounded_up
from lfvit_cli.runtime.stopwatch import Stopwatch


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
    """Runs one network.

    Args:
        network: any network; copied, not changed.
        device: where it runs.
        dtype: the precision of its weights and activations; exits are decided in float32 in any.
        execution: how.

    Attributes:
        stages: of the copy, each ready to run as ``execution`` says.
        fallback: why they run neither compiled nor recorded although they should; None while they do.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype, execution: Execution | None = None
    ) -> None:
        self.network = copy.deepcopy(network).eval().to(device=device, dtype=dtype)
        self.device, self.dtype = device, dtype
        self.execution = execution or Execution()
        self.fallback: str | None = None
        self._fitting: dict[str, FittingStage] = {}
        self.stages = self._prepare()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(stage.name for stage in self.stages)

    def _prepare(self) -> tuple[Stage, ...]:
        stages = stages_of(self.network)
        self._fitting = {
            stage.name: FittingStage(self._made_ready(stage, first=stage is stages[0])) for stage in stages
        }
        apart = self.execution.capture is None
        return tuple(
            each._replace(run=self._fitting[each.name], prepare=each.prepare if apart else None) for each in stages
        )

    def _made_ready(self, stage: Stage, *, first: bool) -> Run:
        """One stage compiled and recorded as asked; a recording holds its preparation as well."""
        how = self.execution
        run: Run = stage.run if how.capture is None else stage.__call__
        if how.compiled:
            # For known numbers of rows in float32 a CPU's compiler takes MKL, which is slower than oneDNN on many CPUs.
            # Recorded stages have few shapes; else the rows that go on vary in number from batch to batch.
            dynamic = self.device.type == "cpu" or (how.capture is None and not first)
            run = CompiledStage(run, self.device, dynamic=dynamic)
        return run if how.capture is None else GraphedStage(run, how.capture)

    @property
    def limits(self) -> dict[str, int]:
        """The most rows at once of each stage that has run out of memory."""
        return {name: stage.limit for name, stage in self._fitting.items() if stage.limit is not None}

    def place(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) as they should lie in memory."""
        layout = torch.channels_last if self.execution.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)

    def settle(self) -> None:
        """Take the threads it should run with."""
        if self.execution.threads is not None:
            torch.set_num_threads(self.execution.threads)

    @torch.inference_mode()
    def __call__(self, images: Tensor, policy: ExitPolicy | None, watch: Stopwatch | None = None) -> Walk:
        """Answer a batch at once, as :func:`lfvit_cli.networks.stages.walk` does.

        Args:
            images: (B, 3, S, S), already on the device and normalised.
            policy: when an answer stands; None runs every stage on every image.
            watch: times the phases.
        """
        seen = walk(self.stages, images, policy, (watch or Stopwatch(self.device)).phase)
        if self.execution.capture is None:
            return seen
        return seen._replace(logits=seen.logits.clone(), outputs=tuple(map(copied, seen.outputs)))

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
            self.stages = self._prepare()
            self._run_all(images)

    def _run_all(self, images: Tensor) -> None:
        """Every stage on the whole batch, and on fewer rows, which compilers and recordings treat apart."""
        counts = {1, min(2, len(images)), len(images)}
        if self.execution.capture:
            counts |= {min(rounded_up(count), len(images)) for count in range(1, len(images))}
        first, *later = self.stages
        state = first(images, None)
        for stage in later:
            for count in sorted(counts):
                # Indexed as an exit indexes them, since a compiler also looks at how tensors lie in memory.
                rows = torch.arange(count, device=self.device)
                output = stage(images[rows], state[rows])
            state = output

    @torch.inference_mode()
    def criterion_values(self, images: Tensor, batch_size: int, criterion: Criterion) -> Tensor:
        """(S-1, N) float32 values of an exit criterion after every stage but the last, batch by batch, on the CPU."""
        batches = []
        for batch in images.split(batch_size):
            outputs: list[Output] = list(walk(self.stages[:-1], batch).outputs)
            batches.append(torch.stack([measure(criterion, output.logits) for output in outputs]).cpu())
        return torch.cat(batches, dim=1)
