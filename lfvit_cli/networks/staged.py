"""The one abstraction: a network that answers in stages, and the early exit over them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, Self, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from lfvit_cli.networks.errors import KeywordError


@dataclass(frozen=True)
class StageOutput:
    """What one stage answers; also the state that the next stage resumes from.

    Every tensor in it has a row for each image.

    Attributes:
        logits: (B, K) class logits.
    """

    logits: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """The same output for some rows only: a boolean mask (B,), row indices or a slice."""
        return join_rows([self], lambda tensors: tensors[0][rows])

    def tensors(self) -> list[Tensor]:
        """Every tensor in it, in the order of the fields."""
        return list(_tensors_in(self))


Output = TypeVar("Output", bound=StageOutput)


def _one_after_another(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors))


def join_rows(outputs: Sequence[Output], join: Callable[[Sequence[Tensor]], Tensor] = _one_after_another) -> Output:
    """Outputs of the same kind, made one: each tensor joined with its likes of the others; by default row after row."""
    first = outputs[0]
    joined = {field.name: _joined([getattr(output, field.name) for output in outputs], join) for field in fields(first)}
    return type(first)(**joined)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors_in(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors_in(getattr(value, field.name))


def _joined(values: Sequence[Any], join: Callable[[Sequence[Tensor]], Tensor]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return join(values)
    if isinstance(first, tuple):
        return tuple(_joined(parts, join) for parts in zip(*values, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        parts = {field.name: [getattr(value, field.name) for value in values] for field in fields(first)}
        return type(first)(**{name: _joined(members, join) for name, members in parts.items()})
    return first


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
    stage's output, both for the rows that go on. A network may also have ``select``, which adds to an output what the
    next stage needs to know first, so that it can be timed apart; ``resume`` does it itself where it was not done.
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


def selection(network: nn.Module) -> Callable[[StageOutput], StageOutput]:
    """The network's ``select``; the identity where it has none."""
    return cast(Callable[[StageOutput], StageOutput], getattr(network, "select", None) or _unchanged)


def _unchanged(state: StageOutput) -> StageOutput:
    return state


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


def goes_on(logits: Tensor, threshold: float) -> Tensor:
    """(B, K) logits to (B,): whether the confidence falls short of the threshold, as one that is no number does."""
    return ~(confidence(logits) >= threshold)


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
        going_on = goes_on(output.logits, exit_at).nonzero().squeeze(1)
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
