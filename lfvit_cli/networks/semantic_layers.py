"""STViT-R's layers: semantic tokens are made of a map of patches, look at it and at one another, and are looked at."""

from typing import Any

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.networks.layers import check_heads, merge_heads, split_heads
from lfvit_cli.networks.stvit import LAYER_SCALE, CrossAttention
from lfvit_cli.networks.swin_layers import NORM_MACS, SWIN_EPS, to_windows

# Patches a side of the map, and of its windows.
GRID, WINDOW = 14, 7
# Windows a side of the map, and semantic tokens a side of a window.
WINDOWS, CELLS = 2, 3
TOKENS_OF_WINDOW, TOKENS = CELLS**2, WINDOWS**2 * CELLS**2
# What the tokens of a window look at: so many patches a side, of which the next window's start so many further on.
NEIGHBOURHOOD, STRIDE = 10, 4


class ScaledBlock(nn.Module):
    """What layers 1 to 5 of a dumbbell have in common: attention and an MLP, whose branches start near zero.

    Args:
        dim: C.
        num_heads: H.
        mlp_ratio: hidden width of the MLP over C.
        drop_path: stochastic depth in training.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim, eps=SWIN_EPS)
        self.attn = CrossAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=SWIN_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def finish(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Add what was seen, and what the MLP makes of it; both (B, n, C)."""
        return self.feed(tokens + self.drop_path(self.layer_scale_1 * seen))

    def feed(self, tokens: Tensor) -> Tensor:
        """The MLP's half alone: (B, n, C) to (B, n, C)."""
        fed: Tensor = tokens + self.drop_path(self.layer_scale_2 * self.mlp(self.norm2(tokens)))
        return fed

    def published_macs(self, queries: int, keys: int, seen: int, normed: int) -> int:
        """MACs of the released network's layer, as fvcore counts them.

        Args:
            queries: tokens that look.
            keys: tokens that are looked at, as often as they are projected.
            seen: tokens that each query looks at.
            normed: tokens that the first norm runs over, as often as it does.
        """
        dim, hidden = self.norm1.weight.numel(), int(self.mlp.fc1.weight.numel())
        attention = 2 * dim**2 * (queries + keys) + 2 * dim * queries * seen
        return attention + 2 * queries * hidden + NORM_MACS * dim * (normed + queries)


class SemanticBlock(ScaledBlock):
    """Layer 1: the patches of each window, pooled, look at themselves and at a neighbourhood of the window.

    Attributes:
        seen: (4, 109) what each window's tokens look at, of the 36 pooled tokens followed by the 196 patches.
    """

    seen: Tensor

    def __init__(self, *common: Any) -> None:
        super().__init__(*common)
        self.register_buffer("seen", neighbourhoods(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, 14, 14, C) patches to (B, 36, C) semantic tokens, window after window."""
        normed = self.norm1(torch.cat((pool(maps), maps.flatten(1, 2)), dim=1))
        attention = self.attn
        query = attention.q(normed[:, :TOKENS]).unflatten(1, (-1, TOKENS_OF_WINDOW)).flatten(0, 1)
        # Projected once, though neighbourhoods overlap.
        seen = attention.kv(normed)[:, self.seen].flatten(0, 1)
        (query,) = split_heads(query, 1, attention.num_heads)
        key, value = split_heads(seen, 2, attention.num_heads)
        mixed = attention.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        # No residual: what was seen is all that the tokens are.
        return self.feed(self.layer_scale_1 * mixed.unflatten(0, (-1, WINDOWS**2)).flatten(1, 2))

    def macs(self) -> int:
        """Of the released network's layer, which projects each neighbourhood apart."""
        seen = self.seen.shape[1]
        return self.published_macs(TOKENS, WINDOWS**2 * seen, seen, TOKENS + WINDOWS**2 * seen)


class CrossBlock(ScaledBlock):
    """Layer 2: semantic tokens look at themselves and at all patches."""

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """(B, 36, C) tokens and (B, 196, C) patches to new tokens."""
        normed = self.norm1(torch.cat((tokens, patches), dim=1))
        return self.finish(tokens, self.attn(normed[:, :TOKENS], normed))

    def macs(self) -> int:
        """Of the released network's layer, which normalises the tokens twice."""
        seen = TOKENS + GRID**2
        return self.published_macs(TOKENS, seen, seen, TOKENS + seen)


class TokenBlock(ScaledBlock):
    """Layers 3 and 4: semantic tokens look at one another, first at those of their window, then at all of them.

    Args:
        parts: groups of tokens, one after the other, of which none sees another.
        common: arguments of :class:`ScaledBlock`.
    """

    def __init__(self, parts: int, *common: Any) -> None:
        super().__init__(*common)
        self.parts = parts

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 36, C) to (B, 36, C)."""
        normed = self.norm1(tokens).unflatten(1, (self.parts, -1)).flatten(0, 1)
        return self.finish(tokens, self.attn(normed, normed).unflatten(0, (-1, self.parts)).flatten(1, 2))

    def macs(self) -> int:
        """Of the released network's layer."""
        return self.published_macs(TOKENS, TOKENS, TOKENS // self.parts, TOKENS)


class RecoveryBlock(ScaledBlock):
    """Layer 5: patches look at the semantic tokens, which have then served."""

    def forward(self, patches: Tensor, tokens: Tensor) -> Tensor:
        """(B, 196, C) patches and (B, 36, C) tokens to new patches."""
        return self.finish(patches, self.attn(self.norm1(patches), self.norm1(tokens)))

    def macs(self) -> int:
        """Of the released network's layer."""
        return self.published_macs(GRID**2, TOKENS, TOKENS, GRID**2 + TOKENS)


def pool(maps: Tensor) -> Tensor:
    """(B, 14, 14, C) patches to (B, 36, C): maxima of 3 x 3 overlapping cells a window, window by window."""
    windows = to_windows(maps, WINDOW).unflatten(1, (WINDOW, WINDOW)).permute(0, 3, 1, 2)
    # Seven cells pooled to three: 0 to 2, 2 to 4, 4 to 6.
    pooled: Tensor = F.max_pool2d(windows, kernel_size=3, stride=2)
    tokens: Tensor = pooled.flatten(2).transpose(1, 2).unflatten(0, (-1, WINDOWS**2)).flatten(1, 2)
    return tokens


def neighbourhoods() -> Tensor:
    """(4, 109) what each window's tokens look at: their nine, and 100 patches, which come behind all 36 tokens."""
    patches = torch.arange(GRID**2, device="cpu").view(GRID, GRID)
    around = patches.unfold(0, NEIGHBOURHOOD, STRIDE).unfold(1, NEIGHBOURHOOD, STRIDE).reshape(WINDOWS**2, -1)
    own = torch.arange(TOKENS, device="cpu").view(WINDOWS**2, -1)
    return torch.cat((own, TOKENS + around), dim=1)


def owners() -> Tensor:
    """(14, 14) the semantic token of each patch, row-major in the 6 x 6 grid; of two cells that share it, the first."""
    place = torch.arange(GRID, device="cpu")
    cell = CELLS * (place // WINDOW) + CELLS * (place % WINDOW) // WINDOW
    return WINDOWS * CELLS * cell.unsqueeze(1) + cell
