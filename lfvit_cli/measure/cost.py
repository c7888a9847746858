"""What each stage of a network costs: MACs counted by fvcore as the stage runs, tokens, and parameters read."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from lfvit_cli.networks.staged import StagedNetwork, StageOutput

with warnings.catch_warnings():
    # fvcore's last release still scripts a function when imported, which newer PyTorch deprecates.
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

EXPECTED = "expected"


class StageCost(BaseModel):
    """One stage of one network, for one image.

    Attributes:
        model: the spec it was built from.
        stage: its name, or ``expected`` for the early exit as a whole.
        tokens: tokens in the stage's first attention layer; None where it has none.
        tokens_per_layer: tokens in each attention layer.
        macs: multiply-accumulates, counted on the stage as it runs.
        published_macs: by the authors' own arithmetic, where that differs.
        params: parameters the stage reads.
        exit_rate: share of images answered before the last stage, for ``expected``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    stage: str
    tokens: int | None
    tokens_per_layer: tuple[int, ...]
    macs: int
    published_macs: int | None
    params: int
    exit_rate: float | None = None


def count_stages(model: str, network: nn.Module) -> list[StageCost]:
    """Every stage of a staged network, each counted on its own, for one image of its size.

    Args:
        model: the spec, for the rows.
        network: in evaluation mode, on the CPU, float32; also a StagedNetwork.
    """
    staged = cast(StagedNetwork, network)
    images = torch.zeros(1, 3, staged.image_size, staged.image_size)
    published: dict[str, int] = getattr(network, "published_macs", dict)()
    state: StageOutput | None = None
    rows = []
    for stage in staged.stages:
        run = _stage(staged, state)
        macs = count_macs(network, run, images)
        with torch.no_grad(), _Observer() as seen:
            state = run(images)
        theirs = published.get(stage)
        rows.append(
            StageCost(
                model=model,
                stage=stage,
                tokens=seen.tokens[0] if seen.tokens else None,
                tokens_per_layer=tuple(seen.tokens),
                macs=macs,
                published_macs=theirs if theirs != macs else None,
                params=sum(parameter.numel() for parameter in seen.parameters.values()),
            )
        )
    return rows


def expected_cost(rows: Sequence[StageCost], exit_rate: float) -> StageCost:
    """The early exit as a whole: every stage weighted by the share of images that runs it.

    All stages but the last are taken to share the exits: with two stages, macs = first + (1 - exit_rate) * last.
    """
    first, *later = rows
    macs = expected_macs([row.macs for row in rows], exit_rate)
    theirs = [row.published_macs or row.macs for row in rows]
    return StageCost(
        model=first.model,
        stage=EXPECTED,
        tokens=None,
        tokens_per_layer=(),
        macs=round(macs),
        published_macs=round(expected_macs(theirs, exit_rate)) if theirs != [row.macs for row in rows] else None,
        params=max(row.params for row in (first, *later)),
        exit_rate=exit_rate,
    )


def expected_macs(stage_macs: Sequence[float], exit_rate: float) -> float:
    """MACs an image on average: the first stage always, the others for the images that go on."""
    return stage_macs[0] + (1 - exit_rate) * sum(stage_macs[1:])


def count_macs(network: nn.Module, run: Callable[[Tensor], StageOutput], images: Tensor) -> int:
    """MACs of one stage's call by fvcore, with what fvcore alone counts as nothing: fused attention, interpolation."""
    analysis = FlopCountAnalysis(_Traceable(network, run), images)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.set_op_handle("aten::lerp", _interpolation_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with warnings.catch_warnings(), torch.no_grad():
        # Shapes are fixed here, so what a trace would freeze is already fixed.
        warnings.simplefilter("ignore")
        return int(analysis.total())


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """QK^T and AV: each B * H * N_query * N_key * d."""
    query, key = get_shape(inputs[0]), get_shape(inputs[1])
    return Counter({"attention": 2 * math.prod(query) * key[-2]})


def _interpolation_macs(_inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """One for each value between two others."""
    return Counter({"interpolation": math.prod(get_shape(outputs[0]))})


def _stage(network: StagedNetwork, state: StageOutput | None) -> Callable[[Tensor], StageOutput]:
    if state is None:
        return network.begin
    return lambda images: network.resume(images, state)


class _Traceable(nn.Module):
    """A stage as a module that returns plain tensors, all of them, so that a trace keeps every operation."""

    def __init__(self, network: nn.Module, run: Callable[[Tensor], StageOutput]) -> None:
        super().__init__()
        self.network = network  # so that its parameters are inputs of the trace
        self.run = run

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.run(images)))


def _tensors(output: StageOutput) -> list[Tensor]:
    values = [getattr(output, field.name) for field in fields(output)]
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class _Observer(TorchFunctionMode):
    """Sees which parameters a stage reads, and how many tokens enter each of its attention layers."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[int, nn.Parameter] = {}
        self.tokens: list[int] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, nn.Parameter):
                self.parameters[id(value)] = value
        if function is F.scaled_dot_product_attention:
            self.tokens.append(args[0].shape[-2])
        return function(*args, **(kwargs or {}))
