"""What each stage of a network costs: MACs counted by fvcore as the stage runs, tokens, and parameters read."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from lfvit_cli.networks.build import image_size
from lfvit_cli.networks.stages import Output, Stage, stages_of, walk
from lfvit_cli.networks.watching import Watching, count_read

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
        varies: whether they depend on the image: then they are the mean over the photos given, if any.
        published_macs: by the authors' own arithmetic, where that differs.
        params: parameters the stage reads.
        params_so_far: parameters that it or a stage before it reads.
        exit_rate: share of images answered before the last stage, for ``expected``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    stage: str
    tokens: int | None
    tokens_per_layer: tuple[int, ...]
    macs: int
    varies: bool = False
    published_macs: int | None
    params: int
    params_so_far: int
    exit_rate: float | None = None


def count_stages(model: str, network: nn.Module, photos: Tensor | None = None) -> list[StageCost]:
    """Every stage of a network, each counted on its own, for one image of its size.

    Args:
        model: the spec, for the rows.
        network: in evaluation mode, on the CPU, float32.
        photos: (N, 3, S, S), normalised, to average over where the cost depends on the image; None for a blank image.
    """
    images = torch.zeros(1, 3, image_size(network), image_size(network))
    means = _means(network, images if photos is None else photos)
    published: dict[str, int] = getattr(network, "published_macs", dict)()
    state: Output | None = None
    rows, watched = [], list[Watching]()
    for stage in stages_of(network):
        macs = means[stage.name] if stage.macs else count_macs(network, stage, images, state)
        with torch.no_grad(), Watching() as seen:
            state = stage(images, state)
        watched.append(seen)
        theirs = published.get(stage.name)
        rows.append(
            StageCost(
                model=model,
                stage=stage.name,
                tokens=seen.tokens[0] if seen.tokens else None,
                tokens_per_layer=tuple(seen.tokens),
                macs=macs,
                varies=stage.macs is not None,
                published_macs=theirs if theirs != macs else None,
                params=count_read(seen),
                params_so_far=count_read(*watched),
            )
        )
    return rows


@torch.no_grad()
def _means(network: nn.Module, images: Tensor) -> dict[str, int]:
    """Mean MACs over the images of every stage whose cost depends on them."""
    stages = stages_of(network)
    if not any(stage.macs for stage in stages):
        return {}
    outputs = walk(stages, images).outputs
    spent = {stage.name: stage.macs(output) for stage, output in zip(stages, outputs, strict=True) if stage.macs}
    return {name: round(float(macs.double().mean())) for name, macs in spent.items()}


def expected_cost(rows: Sequence[StageCost], exit_rate: float) -> StageCost:
    """The early exit as a whole, where a share of the images stops before the last stage, shared by all others."""
    first, *later = rows
    answered = [exit_rate / max(1, len(later))] * len(later) + [1 - exit_rate]
    theirs = [row.published_macs or row.macs for row in rows]
    return StageCost(
        model=first.model,
        stage=EXPECTED,
        tokens=None,
        tokens_per_layer=(),
        macs=round(expected_macs([row.macs for row in rows], answered)),
        published_macs=round(expected_macs(theirs, answered)) if theirs != [row.macs for row in rows] else None,
        params=rows[-1].params_so_far,
        params_so_far=rows[-1].params_so_far,
        exit_rate=exit_rate,
    )


def expected_macs(stage_macs: Sequence[float], answered: Sequence[float]) -> float:
    """MACs an image on average: an image costs all stages up to the one that answers it.

    Args:
        stage_macs: MACs that each stage adds for one image.
        answered: images answered by each stage: counts, or shares of all.
    """
    total, running = 0.0, 0.0
    for macs, images in zip(stage_macs, answered, strict=True):
        running += macs
        total += images * running
    return total / sum(answered)


def count_macs(network: nn.Module, stage: Stage, images: Tensor, state: Output | None) -> int:
    """MACs of one stage's call by fvcore, with what fvcore alone counts as nothing: fused attention, interpolation."""
    analysis = FlopCountAnalysis(_Traceable(network, stage, state), images)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.set_op_handle("aten::lerp", _interpolation_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with warnings.catch_warnings(), torch.no_grad():
        # Shapes are fixed here, so what a trace would freeze is already fixed.
        warnings.simplefilter("ignore")
        return int(analysis.total())


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """QK^T and AV: B * H * N_query * N_key * d, of the keys and of the values."""
    query, key, value = map(get_shape, inputs[:3])
    return Counter({"attention": math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})


def _interpolation_macs(_inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """One for each value between two others."""
    return Counter({"interpolation": math.prod(get_shape(outputs[0]))})


class _Traceable(nn.Module):
    """A stage as a module that returns plain tensors, all of them, so that a trace keeps every operation."""

    def __init__(self, network: nn.Module, stage: Stage, state: Output | None) -> None:
        super().__init__()
        self.network = network  # so that its parameters are inputs of the trace
        self.stage, self.state = stage, state

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.stage(images, self.state).tensors())
