"""LeViT's layers as Evo-ViT has them: a batch norm behind every projection, and class attention for who asks for it."""

from itertools import pairwise
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.networks.layers import class_attention_row, merge_heads

MLP_RATIO = 2
# Values are wider than keys: twice within a stage, four times where the map shrinks.
VALUE_RATIO, SHRINKING_VALUE_RATIO = 2, 4
COUNTER = ".num_batches_tracked"


class Normed(nn.Module):
    """The base of maps with a batch norm.

    Attributes:
        c: the convolution or linear map.
    """

    c: nn.Conv2d | nn.Linear

    @property
    def macs(self) -> int:
        """MACs for each cell or token of the outcome, as fvcore counts them: two for each normalised value."""
        return self.c.weight.numel() + 2 * self.c.weight.shape[0]


class ConvNorm(Normed):
    """A 3 x 3 convolution of stride 2 without bias, and a batch norm."""

    def __init__(self, dim: int, new_dim: int) -> None:
        super().__init__()
        self.c = nn.Conv2d(dim, new_dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(new_dim)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', ceil(h/2), ceil(w/2))."""
        halved: Tensor = self.bn(self.c(maps))
        return halved


def conv_stem(*widths: int, activated: bool) -> nn.Sequential:
    """Convolutions that each halve the map, with Hardswish between them.

    Args:
        widths: channels of the image, and after each convolution.
        activated: whether a Hardswish follows the last one, too.
    """
    layers = list[nn.Module]()
    for dim, new_dim in pairwise(widths):
        layers += [ConvNorm(dim, new_dim), nn.Hardswish()]
    return nn.Sequential(*layers if activated else layers[:-1])


class LinearNorm(Normed):
    """A linear map without bias, and a batch norm over all tokens of the batch.

    Args:
        dim: width of what comes in.
        new_dim: width of what goes out.
        ends_branch: whether it ends a residual branch, which then starts as zero.
    """

    def __init__(self, dim: int, new_dim: int, *, ends_branch: bool = False) -> None:
        super().__init__()
        self.c = nn.Linear(dim, new_dim, bias=False)
        self.bn = nn.BatchNorm1d(new_dim)
        if ends_branch:
            nn.init.zeros_(self.bn.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C')."""
        projected = self.c(tokens)
        normed: Tensor = self.bn(projected.flatten(0, 1))
        return normed.view_as(projected)


class NormLinear(nn.Module):
    """A head: a batch norm, and a linear map to the classes."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(dim)
        self.l = nn.Linear(dim, num_classes)

    @property
    def macs(self) -> int:
        """MACs, as fvcore counts them."""
        return self.l.weight.numel() + 2 * self.l.in_features

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) to (B, K) logits."""
        logits: Tensor = self.l(self.bn(features))
        return logits


class ClassAttention(nn.Module):
    """The base of attention layers, which keep the global class attention G of the patches up to date.

    A layer mixes what its class token attends to into G, by a share that it has learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.learn_tradeoff = nn.Parameter(torch.zeros(1))

    def update(self, attention: Tensor | None, row: Tensor, *, learned: bool) -> Tensor:
        """The new G.

        Args:
            attention: (B, n) G of the patches so far; None where this is the first layer.
            row: (B, m) what the class token attends to here, which may be more tokens than those patches.
            learned: whether the learned share counts, rather than a half.
        """
        if attention is None:
            return row
        share = self.learn_tradeoff.float().sigmoid() if learned else 0.5
        return (1 - share) * attention + share * row[:, : attention.shape[1]]


class Attention(ClassAttention):
    """Multi-head self-attention with narrow keys, Hardswish and a projection.

    Args:
        dim: C.
        key_dim: D, of a head.
        num_heads: H.
    """

    def __init__(self, dim: int, key_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.parts = num_heads, (key_dim, key_dim, VALUE_RATIO * key_dim)
        self.qkv = LinearNorm(dim, num_heads * sum(self.parts))
        project = LinearNorm(num_heads * VALUE_RATIO * key_dim, dim, ends_branch=True)
        self.proj = nn.Sequential(nn.Hardswish(), project)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        return self._mix(*split_unevenly(self.qkv(tokens), self.num_heads, self.parts))

    def with_class_row(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) to (B, N, C), and the class token's attention (B, N-1), the mean over heads; float32."""
        query, key, value = split_unevenly(self.qkv(tokens), self.num_heads, self.parts)
        return self._mix(query, key, value), class_attention_row(query, key).mean(dim=1)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return mixed


def split_unevenly(tokens: Tensor, num_heads: int, parts: tuple[int, ...]) -> tuple[Tensor, ...]:
    """(B, N, H * sum of parts) projections, each head's parts side by side, to one (B, H, N, part) for each part."""
    heads = tokens.unflatten(2, (num_heads, sum(parts))).transpose(1, 2)
    split: tuple[Tensor, ...] = heads.split(parts, dim=-1)
    return split


class AttentionLayer(nn.Module):
    """Attention as a residual branch, under its published key."""

    def __init__(self, dim: int, key_dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.m = Attention(dim, key_dim, num_heads)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        attended: Tensor = tokens + self.drop_path(self.m(tokens))
        return attended

    def tracking(self, tokens: Tensor, attention: Tensor | None, *, learned: bool) -> tuple[Tensor, Tensor]:
        """The same, and the G of the (B, n) patches brought up to date; see :meth:`ClassAttention.update`."""
        branch, row = self.m.with_class_row(tokens)
        return tokens + self.drop_path(branch), self.m.update(attention, row, learned=learned)

    def macs(self, tokens: int) -> int:
        """MACs for so many tokens, without those of the class attention."""
        return linear_macs(self, tokens) + tokens**2 * self.m.num_heads * sum(self.m.parts[1:])


class MlpLayer(nn.Module):
    """An MLP as a residual branch, under its published key."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        hidden = MLP_RATIO * dim
        self.m = nn.Sequential(LinearNorm(dim, hidden), nn.Hardswish(), LinearNorm(hidden, dim, ends_branch=True))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        fed: Tensor = tokens + self.drop_path(self.m(tokens))
        return fed

    def macs(self, tokens: int) -> int:
        """MACs for so many tokens."""
        return linear_macs(self, tokens)


class Subsample(nn.Module):
    """The class token, and every second row and column of the patches.

    Args:
        grid: n, patches a side.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 1 + n^2, C) to (B, 1 + ceil(n/2)^2, C)."""
        return torch.cat((tokens[:, :1], self.patches(tokens[:, 1:])), dim=1)

    def patches(self, values: Tensor) -> Tensor:
        """(B, n^2, ...) to (B, ceil(n/2)^2, ...)."""
        maps: Tensor = values.unflatten(1, (self.grid, self.grid))
        return maps[:, ::2, ::2].flatten(1, 2)


class Downsampling(ClassAttention):
    """Attention between two stages, which halves the map and makes tokens wider; it is no residual branch.

    Args:
        dim: width of what comes in.
        new_dim: width of what goes out.
        key_dim: D, of a head; there are dim / D heads.
        grid: n, patches a side that come in.
    """

    def __init__(self, dim: int, new_dim: int, key_dim: int, grid: int) -> None:
        super().__init__()
        self.num_heads, self.key_dim = dim // key_dim, key_dim
        self.poss = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.kv = LinearNorm(dim, self.num_heads * key_dim * (1 + SHRINKING_VALUE_RATIO))
        self.subsample = Subsample(grid)
        self.q = nn.Sequential(self.subsample, LinearNorm(dim, self.num_heads * key_dim))
        self.proj = nn.Sequential(nn.Hardswish(), LinearNorm(dim * SHRINKING_VALUE_RATIO, new_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 1 + n^2, C) class token and patches in raster order to (B, 1 + ceil(n/2)^2, C')."""
        return self._mix(*self._project(tokens))

    def tracking(self, tokens: Tensor, attention: Tensor | None, *, learned: bool) -> tuple[Tensor, Tensor]:
        """The same, and the G of the patches that are left, whose sum stays that of all; see ClassAttention.update."""
        query, key, value = self._project(tokens)
        row = self.subsample.patches(class_attention_row(query, key).mean(dim=1))
        left = None if attention is None else self.subsample.patches(attention)
        new = self.update(left, row, learned=learned)
        if attention is not None:
            new = new * (attention.sum(dim=1, keepdim=True) / new.sum(dim=1, keepdim=True))
        return self._mix(query, key, value), new

    @property
    def tokens_left(self) -> int:
        """Tokens that come out."""
        return 1 + ((self.subsample.grid + 1) // 2) ** 2

    def macs(self, tokens: int) -> int:
        """MACs for so many tokens that come in, without those of the class attention."""
        projections = linear_macs(self.kv, tokens) + linear_macs(self.q, self.tokens_left)
        attention = tokens * self.tokens_left * self.num_heads * self.key_dim * (1 + SHRINKING_VALUE_RATIO)
        return projections + attention + linear_macs(self.proj, self.tokens_left)

    def _project(self, tokens: Tensor) -> tuple[Tensor, ...]:
        tokens = tokens + self.poss
        (query,) = split_unevenly(self.q(tokens), self.num_heads, (self.key_dim,))
        parts = (self.key_dim, SHRINKING_VALUE_RATIO * self.key_dim)
        return query, *split_unevenly(self.kv(tokens), self.num_heads, parts)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return mixed


def linear_macs(module: nn.Module, tokens: int) -> int:
    """MACs of all linear maps in a module, and of their norms, for so many tokens."""
    return tokens * sum(each.macs for each in module.modules() if isinstance(each, LinearNorm))


def with_counters(network: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's parameters, with batch norms' counters of steps where they were left out: no answer needs them."""
    counters = {name: value for name, value in network.state_dict().items() if name.endswith(COUNTER)}
    return counters | state
