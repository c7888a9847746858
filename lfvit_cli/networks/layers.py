"""The vision transformer's layers as all networks here share them: fused attention, class-token rows, blocks."""

import torch
from timm.layers import DropPath, Mlp, PatchEmbed, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError

EPS = 1e-6

LayerGroups = dict[str, str | list[tuple[str, None]]]


def check_heads(dim: int, num_heads: int) -> None:
    """Raise a KeywordError where a width cannot be split evenly over the heads."""
    if min(dim, num_heads) < 1 or dim % num_heads:
        raise KeywordError(
            f"embed_dim={dim} cannot be split over num_heads={num_heads}",
            "Give a width that is a multiple of the heads.",
        )


def split_heads(tokens: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """(B, N, parts*C) projections to ``parts`` tensors of shape (B, H, N, C/H)."""
    batch, count, width = tokens.shape
    split = tokens.view(batch, count, parts, num_heads, width // (parts * num_heads))
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(heads: Tensor) -> Tensor:
    """(B, H, N, d) back to (B, N, H*d)."""
    return heads.transpose(1, 2).flatten(2)


def class_attention_row(query: Tensor, key: Tensor) -> Tensor:
    """The class token's attention over the patches, and no other row of the attention matrix.

    Args:
        query: (B, H, N, d), the class token first.
        key: (B, H, N, d).

    Returns:
        (B, H, N-1) softmax weights over all N tokens, the patch columns only; float32, as their order matters.
    """
    scores = query[:, :, :1] @ key.transpose(-2, -1)
    weights: Tensor = (scores.squeeze(2).float() * query.shape[-1] ** -0.5).softmax(dim=-1)
    return weights[..., 1:]


class Attention(nn.Module):
    """Multi-head self-attention through the fused kernel."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        query, key, value = split_heads(self.qkv(tokens), 3, self.num_heads)
        return self._mix(query, key, value)

    def with_class_row(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) to (B, N, C) and the class token's attention (B, H, N-1)."""
        query, key, value = split_heads(self.qkv(tokens), 3, self.num_heads)
        return self._mix(query, key, value), class_attention_row(query, key)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return mixed


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each with a residual."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        return self._finish(tokens, self.attn(self.norm1(tokens)))

    def with_class_row(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) to (B, N, C) and the class token's attention (B, H, N-1)."""
        mixed, row = self.attn.with_class_row(self.norm1(tokens))
        return self._finish(tokens, mixed), row

    def feed(self, tokens: Tensor) -> Tensor:
        """The second half alone: (B, N, C) to (B, N, C)."""
        finished: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return finished

    def _finish(self, tokens: Tensor, mixed: Tensor) -> Tensor:
        return self.feed(tokens + self.drop_path(mixed))


class PatchEmbedding(PatchEmbed):  # type: ignore[misc]  # timm is untyped
    """timm's patch embedding, which can also embed patches that were cut out beforehand."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int) -> None:
        if patch_size < 1 or img_size < patch_size or img_size % patch_size:
            raise KeywordError(
                f"images of {img_size} pixels a side cannot be cut into patches of {patch_size}",
                "Give an image size that is a multiple of the patch size.",
            )
        super().__init__(img_size, patch_size, in_chans, embed_dim)

    def embed_patches(self, patches: Tensor) -> Tensor:
        """(B, N, 3*p*p) flattened patches to (B, N, C): the same sum as the strided convolution, as one matmul."""
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def halve(images: Tensor) -> Tensor:
    """(B, C, 2h, 2w) to (B, C, h, w): bilinear with aligned corners, as ``F.interpolate``, but in closed form.

    Pixel i of n lies at i * (2n-1)/(n-1) = 2i + i/(n-1) of the larger image: between 2i and 2i+1, so that nothing is
    looked up. Interpolated in float32.
    """
    down, across = (_places(side // 2, images.device) for side in images.shape[-2:])
    rows = torch.lerp(images[..., 0::2, :].float(), images[..., 1::2, :].float(), down.unsqueeze(1))
    return torch.lerp(rows[..., 0::2], rows[..., 1::2], across).to(images.dtype)


def _places(side: int, device: torch.device) -> Tensor:
    """(n,) where between pixels 2i and 2i+1 of the larger image pixel i lies: i/(n-1), rounded as PyTorch rounds."""
    pixels = torch.arange(side, dtype=torch.float32, device=device)
    return (pixels * ((2 * side - 1) / max(1, side - 1)) - 2 * pixels).clamp(max=1)


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth, growing linearly from 0 to ``rate`` over the layers."""
    return [float(value) for value in torch.linspace(0, rate, depth, device="cpu")]


def layer_groups(blocks: str = r"^blocks\.(\d+)") -> LayerGroups:
    """Layers as timm groups them: the stem, the blocks by number, and whatever is above them.

    Args:
        blocks: pattern of a block's parameters, with its number in a group.
    """
    return {"stem": r"^cls_token|^pos_embed|^patch_embed", "blocks": [(blocks, None)]}


def init_weights(module: nn.Module) -> None:
    """The vision transformer's usual initialisation: truncated normal weights, zero biases."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def descending(values: Tensor) -> Tensor:
    """(B, N) values to their (B, N) indices from the largest down, equal ones in their order.

    Exporters know no stable sort: exported, equal values come in any order.
    """
    if torch.compiler.is_exporting():
        return values.sort(dim=1, descending=True).indices
    return values.sort(dim=1, descending=True, stable=True).indices


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, N, C) tokens at (B, n) indices: (B, n, C)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
