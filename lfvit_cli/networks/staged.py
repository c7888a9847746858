"""The one abstraction: a network that answers in stages, and the early exit over them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from lfvit_cli.networks.errors import KeywordError


@dataclass(frozen=True)
class StageOutput:
    """What one stage answers; also the state that the next stage resumes from.

    Attributes:
        logits: (B, K) class logits.
    """

    logits: Tensor

    def __getitem__(self, rows: Tensor) -> Self:
        """The same output for some rows only: a boolean mask (B,) or row indices."""
        values = {field.name: _rows_of(getattr(self, field.name), rows) for field in fields(self)}
        return type(self)(**values)


def _rows_of(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, tuple):
        return tuple(_rows_of(item, rows) for item in value)
    return value


@dataclass(frozen=True)
class PrunedOutput(StageOutput):
    """The answer of a token-pruning network, with the tokens it kept.

    Attributes:
        logits: (B, K) class logits.
        kept: one (B, n) tensor of patch indices (ascending, row-major on the patch grid) for each pruning.
    """

    kept: tuple[Tensor, ...]


@runtime_checkable
class StagedNetwork(Protocol):
    """A network seen from outside: named stages, each resuming from the one before.

    ``begin`` takes normalised images (B, 3, image_size, image_size); ``resume`` takes the images and the previous
    stage's output, both for the rows that go on.
    """

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        ...

    @property
    def image_size(self) -> int:
        """Pixels a side of the images it takes."""
        ...

    def begin(self, images: Tensor) -> StageOutput:
        """Run the first stage."""
        ...

    def resume(self, images: Tensor, state: StageOutput) -> StageOutput:
        """Run the stage after the one that answered ``state``."""
        ...


class SingleStage(nn.Module):
    """A plain classifier as a staged network with the one stage ``full``."""

    stages = ("full",)

    def __init__(self, model: nn.Module, image_size: int) -> None:
        super().__init__()
        self.model = model
        self.image_size = image_size

    def begin(self, images: Tensor) -> StageOutput:
        """(B, 3, S, S) images to (B, K) logits."""
        return StageOutput(logits=self.model(images))

    def resume(self, images: Tensor, state: StageOutput) -> StageOutput:
        """Nothing follows the only stage."""
        raise NotImplementedError("a single-stage network has no second stage")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images to (B, K) logits."""
        logits: Tensor = self.model(images)
        return logits


@dataclass(frozen=True)
class EarlyExitOutput:
    """The answers of an early exit.

    Attributes:
        logits: (B, K), each row from the stage whose answer stood.
        exit_stage: (B,) index of that stage.
        exited: (B,) True where an earlier stage than the last answered.
    """

    logits: Tensor
    exit_stage: Tensor
    exited: Tensor


def confidence(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) largest softmax probability, in float32 whatever the network's precision."""
    return logits.float().softmax(dim=-1).amax(dim=-1)


def early_exit(network: StagedNetwork, images: Tensor, threshold: float | Sequence[float]) -> EarlyExitOutput:
    """Answer each image at the first stage whose confidence reaches its threshold.

    Rows that exit never enter the next stage; when none is left, nothing runs.

    Args:
        network: any staged network.
        images: (B, 3, S, S), normalised.
        threshold: one for all stages but the last, or one for each of them.

    Raises:
        KeywordError: more or fewer thresholds than stages that can exit.
    """
    thresholds = _thresholds(network, threshold)
    output = network.begin(images)
    logits = output.logits
    exit_stage = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    rows = torch.arange(len(logits), device=logits.device)
    for stage, exit_at in enumerate(thresholds, start=1):
        # Written so that a NaN confidence goes on to the next stage.
        going_on = (~(confidence(output.logits) >= exit_at)).nonzero().squeeze(1)
        if not len(going_on):
            break
        rows = rows[going_on]
        output = network.resume(images[rows], output[going_on])
        logits = logits.index_copy(0, rows, output.logits)
        exit_stage[rows] = stage
    return EarlyExitOutput(logits, exit_stage, exited=exit_stage < len(network.stages) - 1)


def _thresholds(network: StagedNetwork, threshold: float | Sequence[float]) -> tuple[float, ...]:
    exits = len(network.stages) - 1
    if isinstance(threshold, Sequence):
        if len(threshold) != exits:
            raise KeywordError(
                f"{len(threshold)} exit thresholds were given for stages {', '.join(network.stages)}",
                f"Give one for every stage but the last: {exits}.",
            )
        return tuple(threshold)
    return (threshold,) * exits
