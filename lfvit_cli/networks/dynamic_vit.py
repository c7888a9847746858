"""DynamicViT: DeiT with a small predictor before three layers that drops the least useful patch tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import descending, gather_tokens
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.token_schedule import ScheduledViT


class ScorePredictor(nn.Module):
    """Scores each patch token from its own features and the mean of all those still kept (section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise KeywordError(f"embed_dim={dim} cannot be halved by the score predictors", "Give an even width.")
        self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """(B, N, C) kept patch tokens to (B, N, 2) log-probabilities of keeping and of dropping."""
        local, shared = self.in_conv(patches).chunk(2, dim=-1)
        shared = shared.mean(dim=1, keepdim=True).expand_as(local)
        scores: Tensor = self.out_conv(torch.cat((local, shared), dim=-1))
        return scores


class DynamicViT(ScheduledViT):
    """Dynamic token sparsification (Rao et al., NeurIPS 2021, arXiv 2106.02034), as it answers at inference.

    Args:
        scheduled: keywords of :class:`ScheduledViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, **scheduled: Any) -> None:
        super().__init__(**scheduled)
        self.score_predictor = nn.ModuleList(ScorePredictor(self.num_features) for _ in self.pruning_layers)
        self.initialise()

    def reduce(self, pruning: int, tokens: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the patches whose score is highest, in the order that they have."""
        scores = self.score_predictor[pruning](tokens[:, 1:])[..., 0]
        chosen = descending(scores)[:, : self.kept_counts[pruning]].sort(dim=1).values
        tokens = torch.cat((tokens[:, :1], gather_tokens(tokens, chosen + 1)), dim=1)
        return tokens, patches.gather(1, chosen)


METHOD = register(
    Method(
        family="DynamicViT",
        network=DynamicViT,
        models=deit_sizes("dynamicvit"),
        published={
            "dynamicvit_deit_small": (Published(79.3, 2.9, "DynamicViT, Table 1"),),
            "dynamicvit_deit_small:keep_ratio=0.8": (Published(79.6, 3.4, "DynamicViT, Table 1"),),
            "dynamicvit_deit_small:keep_ratio=0.9": (Published(79.8, 4.0, "DynamicViT, Table 1"),),
        },
        checkpoint_key="score_predictor.0.in_conv.0.weight",
        training="the published losses: classes, kept share, and an unpruned teacher's logits and tokens",
    )
)
