"""The sizes of an Evo-LeViT, from the published way of writing them, checked."""

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from lfvit_cli.errors import KeywordError

STAGES = 3
PATCH_SIZE = 16
# Published: the first two layers run on all patches, and all others keep half of them.
WHOLE_LAYERS, KEPT = 2, 0.5


class StageShape(NamedTuple):
    """One stage.

    Attributes:
        width: C, of its tokens.
        heads: of its attention layers.
        side: n, patches a side.
        first: number of its first layer in the network.
        whole: layers, the first ones, that run on all patches.
        kept_by_layer: patches that each of the other layers keeps where it selects for itself.
        kept_at_once: patches that those layers keep together.
    """

    width: int
    heads: int
    side: int
    first: int
    whole: int
    kept_by_layer: tuple[int, ...]
    kept_at_once: int


def stage_shapes(
    widths: Any, key_dim: int, heads: Any, depths: Any, prune_ratio: Any, img_size: int
) -> tuple[StageShape, ...]:
    """The three stages; for the arguments, see :class:`lfvit_cli.networks.evo_levit.EvoLeViT`.

    Raises:
        KeywordError: values that describe no network.
    """
    widths, heads, depths = three("C", widths), three("N", heads), three("X", depths)
    if key_dim < 1:
        raise KeywordError(f"D={key_dim} is not a width", "Give a number of at least 1, such as 16.")
    if widths[0] % 8:
        raise KeywordError(f"C={widths} does not begin with a multiple of 8", "The stem starts with an eighth of it.")
    if any(width % key_dim for width in widths[:-1]):
        raise KeywordError(f"C={widths} cannot be split into heads of D={key_dim}", "Give multiples of D.")
    if img_size < PATCH_SIZE or img_size % PATCH_SIZE:
        raise KeywordError(f"img_size={img_size} is not cut evenly", f"Give a multiple of {PATCH_SIZE}.")
    by_layer, by_stage = _ratios(prune_ratio, depths)
    if by_layer[0] < 1:
        raise KeywordError(
            "the first layer has no attention to select by", "Begin prune_ratio with 1, for a layer on all patches."
        )
    sides = accumulate(range(STAGES - 1), lambda side, _: (side + 1) // 2, initial=img_size // PATCH_SIZE)
    stages = []
    bounds = pairwise(accumulate(depths, initial=0))
    for width, head_count, side, (first, end), ratio in zip(widths, heads, sides, bounds, by_stage, strict=True):
        ratios = by_layer[first:end]
        whole = next((place for place, each in enumerate(ratios) if each < 1), len(ratios))
        pruned = tuple(_kept(side, each) for each in ratios[whole:])
        at_once = _kept(side, ratio) if pruned else side**2
        stages.append(StageShape(width, head_count, side, first, whole, pruned, at_once))
    return tuple(stages)


def three(name: str, value: Any) -> tuple[int, ...]:
    """A number for each stage, from "128_256_384" or a sequence.

    Raises:
        KeywordError: it is none.
    """
    numbers = list(value) if isinstance(value, Sequence) else []
    if isinstance(value, str) and re.fullmatch(r"\d+(_\d+)*", value):
        numbers = [int(part) for part in value.split("_")]
    if len(numbers) != STAGES or not all(isinstance(each, int) and each >= 1 for each in numbers):
        # Unquoted on the command line, 128_256_384 is one number, as in Python.
        raise KeywordError(
            f"{name}={value} is not a number for each of {STAGES} stages", f"Give a tuple, such as {name}=(4,6,8)."
        )
    return tuple(numbers)


def _ratios(prune_ratio: Any, depths: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """The share of patches kept by each layer, and by each stage."""
    layers = sum(depths)
    if prune_ratio is None:
        return [1.0 if layer < WHOLE_LAYERS else KEPT for layer in range(layers)], [KEPT] * STAGES
    try:
        by_layer, by_stage = ([float(each) for each in part] for part in prune_ratio)
    except (TypeError, ValueError):
        by_layer, by_stage = [], []
    if (len(by_layer), len(by_stage)) != (layers, STAGES):
        raise KeywordError(
            f"prune_ratio={prune_ratio} is not a share for each of {layers} layers and each of {STAGES} stages",
            "Give two lists of numbers.",
        )
    return by_layer, by_stage


def _kept(side: int, ratio: float) -> int:
    """int(n^2 * ratio), not fooled by 0.7 * 10 = 7.000000000000001; some, but not all, of the patches."""
    patches = side**2
    kept = int(round(patches * ratio, 9))
    if not 1 <= kept < patches:
        raise KeywordError(
            f"a prune_ratio of {ratio} keeps {kept} of {patches} patches",
            "Layers that prune must keep some and drop some: give a share between 0 and 1, or larger images.",
        )
    return kept
