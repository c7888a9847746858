"""DPC-KNN and K-Medoids on DeiT: every patch token goes into exactly one cluster, and each makes a new token."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import NOTE, ClusteringViT, Clusters, precise
from lfvit_cli.networks.layers import gather_tokens, merge_heads, split_heads
from lfvit_cli.networks.method import Method, deit_sizes, register


def distances_between(patches: Tensor) -> Tensor:
    """(B, n, C) patches to their (B, n, n) Euclidean distances, for a choice, which has no gradient.

    Written out as |x|^2 + |y|^2 - 2xy, since exporters do not know ``torch.cdist``; fvcore counts none of it.
    """
    points = precise(patches.detach())
    # Around their mean squares are smaller, and so is what is lost between them.
    points = points - points.mean(dim=1, keepdim=True)
    squares = points.square().sum(dim=-1, keepdim=True)
    with torch.autocast(points.device.type, enabled=False):
        squared = torch.baddbmm(squares + squares.transpose(1, 2), points, points.transpose(1, 2), alpha=-2)
    return squared.clamp_min(0).sqrt()


def nearest(distances: Tensor, centres: Tensor) -> Tensor:
    """(B, n, n) distances to the (B, n) index, among (B, K) places of centres, of the one nearest to each patch."""
    return distances.gather(1, centres.unsqueeze(-1).expand(-1, -1, distances.shape[-1])).argmin(dim=1)


class DpcKnn(nn.Module):
    """Density peaks: centres are dense, and far from whatever is denser; a cluster's new token is a weighted mean.

    Args:
        dim: C.
        count: K.
        neighbours: nearest patches, itself included, that a patch's density is taken from.
        equal_weight: patches of a cluster count alike, instead of by a learned score.
    """

    def __init__(self, dim: int, count: int, neighbours: int, equal_weight: bool) -> None:
        super().__init__()
        self.count, self.neighbours = count, neighbours
        self.score = None if equal_weight else nn.Linear(dim, 1)

    def forward(self, patches: Tensor, _received: None = None) -> Clusters:
        """(B, n, C) patches to K new tokens."""
        _, cluster = self.assign(patches)
        weights = torch.ones_like(patches[..., :1]) if self.score is None else self.score(patches).exp()
        weighed, places = weights * patches, cluster.unsqueeze(-1)
        batch, _, width = patches.shape
        sums = weighed.new_zeros(batch, self.count, width).scatter_add(1, places.expand_as(weighed), weighed)
        totals = weights.new_zeros(batch, self.count, 1).scatter_add(1, places, weights)
        return Clusters(sums / (totals + 1e-6), cluster)

    def assign(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) patches to the (B, K) places of the centres and the (B, n) cluster of every patch.

        The released code adds random noise of up to 1e-6 to the densities; without it, answers repeat.
        """
        distances = distances_between(patches) / patches.shape[-1] ** 0.5
        closest = distances.topk(self.neighbours, dim=-1, largest=False).values
        density = (-closest.square().mean(dim=-1)).exp()
        denser = density.unsqueeze(1) > density.unsqueeze(2)
        # Nothing is denser than the densest, which counts as far as any two patches are.
        separation = torch.where(denser, distances, distances.amax(dim=(1, 2), keepdim=True)).amin(dim=-1)
        centres = (density * separation).topk(self.count, dim=-1).indices
        numbers = torch.arange(self.count, device=patches.device).expand_as(centres)
        return centres, nearest(distances, centres).scatter(1, centres, numbers)


class KMedoids(nn.Module):
    """K-Medoids: centres are patches with little attention-weighted distance to all; the centres are the new tokens.

    Args:
        count: K.
        iterations: how often the centres move.
    """

    def __init__(self, count: int, iterations: int) -> None:
        super().__init__()
        self.count, self.iterations = count, iterations

    def forward(self, patches: Tensor, received: Tensor) -> Clusters:
        """(B, n, C) patches, and the (B, n) attention that each has received, to K new tokens."""
        centres, cluster = self.assign(patches, received)
        return Clusters(gather_tokens(patches, centres), cluster)

    def assign(self, patches: Tensor, received: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) patches and (B, n) attention to the (B, K) centres' places and the (B, n) cluster of every patch.

        A patch's cost as a centre sums up its distances to all patches, not only to its cluster's, so that it never
        changes, and each cluster's centre moves without regard to the others: all of them move at once.
        """
        distances = distances_between(patches)
        costs = (received * distances.sum(dim=-1)).unsqueeze(1)
        numbers = torch.arange(self.count, device=patches.device).unsqueeze(1)
        centres = received.topk(self.count, dim=-1).indices
        for _ in range(self.iterations):
            members = nearest(distances, centres).unsqueeze(1) == numbers
            centres = costs.masked_fill(~members, torch.inf).argmin(dim=-1)
        return centres, nearest(distances, centres)


class DpcKnnViT(ClusteringViT):
    """DPC-KNN.

    Args:
        k_neighbors: nearest patches, itself included, that a patch's density is taken from.
        equal_weight: patches of a cluster count alike, instead of by a learned score.
        common: keywords of :class:`ClusteringViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, k_neighbors: int = 5, equal_weight: bool = False, **common: Any) -> None:
        super().__init__(**common)
        fewest = (self.num_patches, *self.counts)[-2]
        if not 1 <= k_neighbors <= fewest:
            raise KeywordError(
                f"k_neighbors={k_neighbors} does not fit {fewest} patches, the fewest that are clustered",
                f"Give a number from 1 to {fewest}.",
            )
        self.cluster_by(partial(DpcKnn, neighbours=k_neighbors, equal_weight=equal_weight))


class KMedoidsViT(ClusteringViT):
    """K-Medoids, weighted by the attention that each patch received in the block before.

    Args:
        cluster_iters: how often the centres move.
        equal_weight: must be False.
        common: keywords of :class:`ClusteringViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, cluster_iters: int = 3, equal_weight: bool = False, **common: Any) -> None:
        super().__init__(**common)
        if equal_weight:
            raise KeywordError("equal_weight=True would start at random patches", "Leave it out, or give False.")
        if cluster_iters < 0:
            raise KeywordError(f"cluster_iters={cluster_iters} is not a number of iterations", "Give at least 0.")
        if 0 in self.reduction_loc:
            raise KeywordError(
                "before block 0 no attention says which patches matter",
                "Give a reduction_loc that starts at 1 or above.",
            )
        self.cluster_by(lambda _dim, count: KMedoids(count, cluster_iters))

    def run_block(self, layer: int, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """One block; before a clustering, also the (B, n-1) attention that each patch received from all tokens.

        Its sum over queries needs the whole attention matrix, which no other block forms.
        """
        if layer + 1 not in self.reduction_loc:
            return super().run_block(layer, tokens)
        block = self.blocks[layer]
        query, key, value = split_heads(block.attn.qkv(block.norm1(tokens)), 3, block.attn.num_heads)
        weights = (precise(query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5).softmax(dim=-1)
        tokens = tokens + block.drop_path(block.attn.proj(merge_heads(weights.to(value.dtype) @ value)))
        return block.feed(tokens), weights.sum(dim=(1, 2))[:, 1:]


DPC_KNN = register(
    Method(
        family="DPC-KNN",
        network=DpcKnnViT,
        models=deit_sizes("dpc_knn"),
        checkpoint_key="cluster_layers.0.score.weight",
        note=f"{NOTE}, without its random noise",
    )
)
K_MEDOIDS = register(Method(family="K-Medoids", network=KMedoidsViT, models=deit_sizes("k_medoids"), note=NOTE))
