"""DeiT with fewer patch tokens from some layers on: the frame of DynamicViT and of its controls."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Tokens, Trace, kept_tokens


class ScheduledViT(PlainViT):
    """DeiT whose number of patch tokens falls before some layers; a subclass says how, by :meth:`reduce`.

    Args:
        keep_ratio: rho; the k-th reduction leaves rho^k of all patches.
        token_ratio: the share left by each reduction, instead of powers of ``keep_ratio``.
        pruning_layers: 0-based layers before which tokens become fewer; by default after each quarter of the depth
            but the last (3, 6, 9 of 12).
        plain: keywords of :class:`PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self,
        keep_ratio: float = 0.7,
        token_ratio: Sequence[float] | None = None,
        pruning_layers: Sequence[int] | None = None,
        **plain: Any,
    ) -> None:
        super().__init__(**plain)
        self.pruning_layers = _layers(pruning_layers, len(self.blocks))
        powers = tuple(keep_ratio**power for power in range(1, len(self.pruning_layers) + 1))
        self.kept_counts = kept_counts(self.num_patches, powers if token_ratio is None else _listed(token_ratio))
        if len(self.kept_counts) != len(self.pruning_layers):
            raise KeywordError(
                f"{len(self.kept_counts)} token ratios were given for {len(self.pruning_layers)} pruning layers",
                "Give one ratio for every pruning layer.",
            )

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and what has become of the patches at each reduction."""
        tokens, patches = self.begin(images)
        traces = list[Trace]()
        for layer, block in enumerate(self.blocks):
            if layer in self.pruning_layers:
                tokens, patches = self.reduce(self.pruning_layers.index(layer), tokens, patches)
                traces.append(self.trace(patches, f"layer {layer}"))
            tokens = block(tokens)
        return Output(self.classify(tokens), traces=tuple(traces))

    def begin(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) images to (B, 1 + N, C) tokens, and the (B, N) patches that they stand for, in their order."""
        tokens = self.embed(images)
        return tokens, torch.arange(self.num_patches, device=images.device).expand(tokens.shape[0], -1)

    @abstractmethod
    def reduce(self, pruning: int, tokens: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """One reduction.

        Args:
            pruning: which one, from 0.
            tokens: (B, 1 + n, C), the class token first.
            patches: (B, n) the patches that the others stand for.

        Returns:
            The same for the ``kept_counts[pruning]`` tokens that go on.
        """

    def trace(self, patches: Tensor, name: str) -> Tokens:
        """What a picture shows of a reduction, given what :meth:`reduce` returned as patches."""
        return kept_tokens(patches, self.grid, name)


def kept_counts(patches: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Whole patches left by each reduction: int(N * ratio), not fooled by 0.7^2 * 100 = 48.99999999999999.

    Raises:
        KeywordError: a ratio that keeps nothing, or more than the reduction before it.
    """
    counts = tuple(int(round(patches * ratio, 9)) for ratio in ratios)
    if not all(1 <= after <= before for before, after in zip((patches, *counts), counts, strict=False)):
        raise KeywordError(
            f"token ratios {', '.join(f'{ratio:g}' for ratio in ratios)} keep {counts} of {patches} patches",
            "Give ratios above 0 and at most 1, none larger than the one before.",
        )
    return counts


def quarters(depth: int) -> tuple[int, ...]:
    """The layers after each quarter of the depth but the last: 3, 6 and 9 of 12."""
    return tuple(sorted({depth // 4, depth // 2, 3 * depth // 4}))


def _listed(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, Sequence) else (values,)


def _layers(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    chosen = quarters(depth) if layers is None else _listed(layers)
    if list(chosen) != sorted(set(chosen)) or not all(0 <= layer < depth for layer in chosen):
        raise KeywordError(
            f"pruning_layers={chosen} does not fit {depth} layers",
            f"Give ascending layers from 0 to {depth - 1}.",
        )
    return chosen
