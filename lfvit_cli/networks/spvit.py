"""SPViT: DeiT with a selector before three layers that drops tokens by their scores, and packages them into one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import precise
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.ragged import Layout
from lfvit_cli.networks.ragged_vit import RaggedOutput, RaggedViT
from lfvit_cli.networks.traces import Tokens, Trace


class Selector(nn.Module):
    """Scores each token head by head, and weighs the heads by themselves (section 3.2).

    The heads share one module, which the published file repeats under the name of each.

    Args:
        dim: C.
        num_heads: H.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        each = dim // num_heads
        if each % 2 or num_heads < 2:
            raise KeywordError(
                f"a selector cannot halve {num_heads} heads and the {each} channels of each",
                "Give at least 2 heads, and a width that is an even multiple of them.",
            )
        self.num_heads = num_heads
        self.senet = nn.Sequential(
            nn.Linear(num_heads, num_heads // 2), nn.GELU(), nn.Linear(num_heads // 2, num_heads), nn.Sigmoid()
        )
        enter = nn.Sequential(nn.LayerNorm(each), nn.Linear(each, each), nn.GELU())
        leave = nn.Sequential(
            nn.Linear(each, each // 2), nn.GELU(), nn.Linear(each // 2, each // 4), nn.GELU(), nn.Linear(each // 4, 2)
        )
        self.in_conv = nn.ModuleList([enter] * num_heads)
        self.out_conv = nn.ModuleList([leave] * num_heads)

    def forward(self, tokens: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Score tokens.

        Args:
            tokens: (B, n, C), without the class token.
            present: (B, n) which places hold a token; None for all.

        Returns:
            (B, n) whether each is worth keeping, and (B, n) the probability of that.
        """
        heads = tokens.unflatten(2, (self.num_heads, -1))
        weights = self.senet(heads.mean(dim=3)).unsqueeze(3)
        features = self.in_conv[0](heads)
        local, shared = features.chunk(2, dim=3)
        if present is None:
            shared = shared.mean(dim=1, keepdim=True)
        else:
            there = present[:, :, None, None].to(tokens.dtype)
            shared = (shared * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True)
        logits = self.out_conv[0](torch.cat((local, shared.expand_as(local)), dim=3))
        total = weights.sum(dim=2)
        scores = (weights * logits.log_softmax(dim=3)).sum(dim=2) / total
        chances = (weights * logits.softmax(dim=3)).sum(dim=2) / total
        return scores[..., 0] >= scores[..., 1], chances[..., 0]
