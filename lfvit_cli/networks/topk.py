"""Top-K and the port of EViT by Haurum et al.: class attention decides, and the counts are set in advance."""

from collections.abc import Sequence
from typing import Any

from lfvit_cli.networks.clustering import NOTE, cluster_counts, reduction_blocks
from lfvit_cli.networks.evit import AttentiveViT
from lfvit_cli.networks.method import Method, deit_sizes, register


class TopK(AttentiveViT):
    """Top-K on DeiT (Haurum et al., ICCVW 2023, arXiv 2308.04657): what is not kept is dropped.

    Args:
        keep_rate: k; the i-th reduction leaves int(N * k^i) of the N patches.
        reduction_loc: 0-based blocks that shrink.
        plain: keywords of :class:`lfvit_cli.networks.plain_vit.PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    fuse_token = False

    def __init__(
        self, keep_rate: float | Sequence[float] = 0.7, reduction_loc: Sequence[int] = (3, 6, 9), **plain: Any
    ) -> None:
        super().__init__(**plain)
        layers = reduction_blocks(reduction_loc, len(self.blocks))
        counts = dict(zip(layers, cluster_counts(self.num_patches, keep_rate, len(layers)), strict=True))
        self.counts = self.plan(lambda layer, present: counts.get(layer, present))


class FusingTopK(TopK):
    """EViT as ported there: with the counts of Top-K, to which the fused token comes on top."""

    fuse_token = True


TOP_K = register(Method(family="Top-K", network=TopK, models=deit_sizes("topk"), note=NOTE))
EVIT_PORT = register(Method(family="EViT port", network=FusingTopK, models=deit_sizes("evit_tr"), note=NOTE))
