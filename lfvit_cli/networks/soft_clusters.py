"""PatchMerger, SiT and Sinkhorn on DeiT: every new token is a weighted sum of all the patch tokens before it."""

import math
from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import NOTE, ClusteringViT, Clusters, precise
from lfvit_cli.networks.method import Method, deit_sizes, register

# Unlike the norms of DeiT's own blocks.
CLUSTER_EPS = 1e-5


class SoftClusters(nn.Module):
    """The base: weights of the old tokens in each new one."""

    def forward(self, patches: Tensor, _received: None = None) -> Clusters:
        """(B, n, C) patches to K new tokens; each patch is said to belong to where its weight is largest."""
        weights, features = self.mix(patches)
        return Clusters(weights @ features, weights.argmax(dim=1))

    @abstractmethod
    def mix(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) patches to (B, K, n) weights and the (B, n, C) features that they weigh."""


class PatchMerger(SoftClusters):
    """Learned queries attend to the normalised patches, without a scale."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=CLUSTER_EPS)
        # Products with normalised patches are then of unit variance.
        self.queries = nn.Parameter(trunc_normal_(torch.empty(count, dim), std=dim**-0.5))

    def mix(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) to (B, K, n) weights and normalised patches."""
        features = self.norm(patches)
        return (self.queries @ features.transpose(1, 2)).softmax(dim=-1), features


class SiT(SoftClusters):
    """Each patch says how much it is for each new token."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Sequential(
            nn.LayerNorm(dim, eps=CLUSTER_EPS), nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, count)
        )
        self.scale = nn.Parameter(torch.ones(1, 1, 1))

    def mix(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) to (B, K, n) weights, a softmax over the patches, and the patches as they are."""
        weights = (self.weight(patches) * self.scale).softmax(dim=1)
        return weights.transpose(1, 2), patches


class Sinkhorn(SoftClusters):
    """Optimal transport from patches to learned directions, its entropy weighed by eps.

    Args:
        dim: C.
        count: K.
        eps: similarities are divided by it: the smaller, the harder the assignment.
        iterations: of Sinkhorn's algorithm.
    """

    def __init__(self, dim: int, count: int, eps: float, iterations: int) -> None:
        super().__init__()
        self.eps, self.iterations = eps, iterations
        self.v = nn.Parameter(trunc_normal_(torch.empty(count, dim), std=0.02))

    def mix(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) to (B, K, n) transport, scaled by K + n, and the patches at unit length."""
        features = F.normalize(patches, dim=-1)
        similarity = precise(F.normalize(self.v, dim=-1) @ features.transpose(1, 2)) / self.eps
        # In log space; every row and every column is to sum to the same.
        total = math.log(similarity.shape[1] + similarity.shape[2])
        columns = torch.zeros_like(similarity[:, :1])
        for _ in range(self.iterations):
            rows = -total - (similarity + columns).logsumexp(dim=2, keepdim=True)
            columns = -total - (similarity + rows).logsumexp(dim=1, keepdim=True)
        return (similarity + rows + columns + total).exp().to(patches.dtype), features


class PatchMergerViT(ClusteringViT):
    """PatchMerger; keywords are those of :class:`ClusteringViT`."""

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.cluster_by(PatchMerger)


class SiTViT(ClusteringViT):
    """SiT; keywords are those of :class:`ClusteringViT`."""

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.cluster_by(SiT)


class SinkhornViT(ClusteringViT):
    """Sinkhorn.

    Args:
        sinkhorn_eps: weight of the transport's entropy.
        cluster_iters: iterations of Sinkhorn's algorithm.
        common: keywords of :class:`ClusteringViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, sinkhorn_eps: float = 1.0, cluster_iters: int = 3, **common: Any) -> None:
        super().__init__(**common)
        if not sinkhorn_eps > 0:
            raise KeywordError(f"sinkhorn_eps={sinkhorn_eps} cannot be divided by", "Give a number above 0.")
        if cluster_iters < 1:
            raise KeywordError(f"cluster_iters={cluster_iters} transports nothing", "Give at least 1.")
        self.cluster_by(partial(Sinkhorn, eps=sinkhorn_eps, iterations=cluster_iters))


PATCH_MERGER = register(
    Method(
        family="PatchMerger",
        network=PatchMergerViT,
        models=deit_sizes("patch_merger"),
        checkpoint_key="cluster_layers.0.queries",
        note=NOTE,
    )
)
SIT = register(
    Method(
        family="SiT",
        network=SiTViT,
        models=deit_sizes("sit"),
        checkpoint_key="cluster_layers.0.scale",
        note=NOTE,
    )
)
SINKHORN = register(
    Method(
        family="Sinkhorn",
        network=SinkhornViT,
        models=deit_sizes("sinkhorn"),
        checkpoint_key="cluster_layers.0.v",
        note=NOTE,
    )
)
