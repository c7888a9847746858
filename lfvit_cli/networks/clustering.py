"""DeiT that gathers its patch tokens into fewer before some blocks: the frame of the clustering methods."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Tokens, Trace

NOTE = "as ported to DeiT by Haurum et al. (ICCVW 2023)"


class Clusters(NamedTuple):
    """What a clustering makes of n patch tokens.

    Attributes:
        tokens: (B, K, C) the new ones.
        owner: (B, n) which of them each patch token has gone into, or contributes to most.
    """

    tokens: Tensor
    owner: Tensor


class ClusteringViT(PlainViT):
    """DeiT with a clustering of its patches before some blocks (Haurum et al., ICCVW 2023, arXiv 2308.04657).

    A subclass says how, by :meth:`cluster_by`; the class token is set aside while patches are clustered.

    Args:
        keep_rate: k; the i-th clustering leaves int(N * k^i) of the N patches.
        reduction_loc: 0-based blocks before which patches are clustered.
        plain: keywords of :class:`PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self, keep_rate: float | Sequence[float] = 0.7, reduction_loc: Sequence[int] = (3, 6, 9), **plain: Any
    ) -> None:
        super().__init__(**plain)
        self.reduction_loc = reduction_blocks(reduction_loc, len(self.blocks))
        self.counts = cluster_counts(self.num_patches, keep_rate, len(self.reduction_loc))

    def cluster_by(self, layer: Callable[[int, int], nn.Module]) -> None:
        """Set how patches are clustered.

        Args:
            layer: C and K to a module that takes (B, n, C) patches, and what :meth:`run_block` gave beside them, to
                :class:`Clusters`.
        """
        self.cluster_layers = nn.ModuleList(layer(self.num_features, count) for count in self.counts)
        self.initialise()

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and the cluster of each patch of the grid after each clustering."""
        tokens, received = self.embed(images), None
        owner = torch.arange(self.num_patches, device=images.device).expand(tokens.shape[0], -1)
        traces = list[Trace]()
        for layer in range(len(self.blocks)):
            if layer in self.reduction_loc:
                clusters = self.cluster_layers[self.reduction_loc.index(layer)](tokens[:, 1:], received)
                tokens = torch.cat((tokens[:, :1], clusters.tokens), dim=1)
                owner = clusters.owner.gather(1, owner)
                traces.append(Tokens(owner.unflatten(1, self.grid), f"layer {layer}"))
            tokens, received = self.run_block(layer, tokens)
        return Output(self.classify(tokens), traces=tuple(traces))

    def run_block(self, layer: int, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """One block: (B, n, C) to the same; and what the clustering that may follow is to know of each patch."""
        return self.blocks[layer](tokens), None


def precise(values: Tensor) -> Tensor:
    """In float32 at least, for what is compared or summed up in an exponent."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def cluster_counts(patches: int, keep_rate: Any, reductions: int) -> tuple[int, ...]:
    """Tokens left by each reduction: int(N * k^i), always of the original N, as the released code computes it.

    Raises:
        KeywordError: several rates, or one that leaves nothing or more than there was.
    """
    rates = tuple(keep_rate) if isinstance(keep_rate, Sequence) else (keep_rate,)
    if len(rates) != 1 or not isinstance(rates[0], int | float):
        raise KeywordError(f"keep_rate={keep_rate} is not one rate", "Give one number above 0 and at most 1.")
    counts = tuple(int(patches * rates[0] ** power) for power in range(1, reductions + 1))
    if not all(1 <= count <= patches for count in counts):
        raise KeywordError(
            f"keep_rate={rates[0]} leaves {', '.join(map(str, counts))} of {patches} patches",
            "Give a rate of at most 1 that leaves at least one.",
        )
    return counts


def reduction_blocks(blocks: Any, depth: int) -> tuple[int, ...]:
    """The blocks before or in which there become fewer tokens, ascending.

    Raises:
        KeywordError: none, not ascending, or not within the depth.
    """
    chosen = tuple(blocks) if isinstance(blocks, Sequence) else (blocks,)
    fit = bool(chosen) and all(isinstance(block, int) and 0 <= block < depth for block in chosen)
    if not fit or list(chosen) != sorted(set(chosen)):
        raise KeywordError(
            f"reduction_loc={blocks} does not fit {depth} blocks", f"Give ascending blocks from 0 to {depth - 1}."
        )
    return chosen
