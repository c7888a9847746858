"""One part of DVT: a DeiT that reuses features and attention of a part on a coarser grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.networks.layers import EPS, Attention, Block, drop_path_rates, merge_heads, split_heads
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output


class Regrid(nn.Module):
    """Patches of an a x a grid to those of a finer b x b one: nearest to 2a x 2a, then adaptive average pooling.

    Pooling covers at most three of the doubled cells a side, which are copies of one or two neighbours on the old
    grid. So each new cell lies at a fixed place between two old ones, along one axis after the other.
    """

    first: Tensor
    second: Tensor
    place: Tensor

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.old = old
        doubled = [range(2 * old * cell // new, -(-2 * old * (cell + 1) // new)) for cell in range(new)]
        covered = [[cell // 2 for cell in cells] for cells in doubled]
        ends = torch.tensor([(cells[0], cells[-1]) for cells in covered], device="cpu")
        place = [cells.count(cells[-1]) / len(cells) for cells in covered]
        self.register_buffer("first", ends[:, 0].clone(), persistent=False)
        self.register_buffer("second", ends[:, 1].clone(), persistent=False)
        self.register_buffer("place", torch.tensor(place, device="cpu"), persistent=False)

    def forward(self, values: Tensor, dim: int) -> Tensor:
        """(..., a*a, ...) to (..., b*b, ...), the patches along ``dim``."""
        grid: Tensor = values.unflatten(dim, (self.old, self.old))
        for axis in (dim, dim + 1):
            place = self.place.to(grid.dtype).view(-1, *(1,) * (grid.ndim - axis - 1))
            grid = torch.lerp(grid.index_select(axis, self.first), grid.index_select(axis, self.second), place)
        return grid.flatten(dim, dim + 1)

    def relations(self, logits: Tensor) -> Tensor:
        """(B, H, 1 + a*a, 1 + a*a) attention logits to (B, H, 1 + b*b, 1 + b*b): keys, then queries; not the class."""
        for dim in (3, 2):
            token, patches = logits.tensor_split((1,), dim)
            logits = torch.cat((token, self(patches, dim)), dim)
        return logits


class RelationAttention(Attention):
    """Self-attention to whose logits something may be added, and which may give its logits away."""

    def forward(  # type: ignore[override]
        self, tokens: Tensor, relation: Tensor | None, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, C) and what to add (B, H, N, N) to (B, N, C) and, if they are to be kept, the logits (B, H, N, N)."""
        query, key, value = split_heads(self.qkv(tokens), 3, self.num_heads)
        if not keep:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=relation)
            return self.proj(merge_heads(mixed)), None
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        logits = logits if relation is None else logits + relation
        return self.proj(merge_heads(logits.softmax(dim=-1) @ value)), logits


class ReuseBlock(Block):
    """A block whose attention reuses relations, and whose MLP reuses features.

    Args:
        dim: C.
        num_heads: H.
        mlp_ratio: hidden width of the MLP over C.
        drop_path: stochastic depth in training.
        reuse: hidden width and width of the reused features; None where none are.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float, reuse: tuple[int, int] | None
    ) -> None:
        super().__init__(dim, num_heads, mlp_ratio, drop_path)
        self.attn: Any = RelationAttention(dim, num_heads)
        if reuse is not None:
            hidden, width = reuse
            self.norm2 = nn.LayerNorm(dim + width, eps=EPS)
            self.mlp = Mlp(dim + width, int(dim * mlp_ratio), dim)
            # Spelled as in the published checkpoints.
            self.feature_resuse_mlp = nn.Sequential(nn.LayerNorm(dim, eps=EPS), Mlp(dim, hidden, width))

    def forward(  # type: ignore[override]
        self, tokens: Tensor, features: Tensor | None, relation: Tensor | None, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One block.

        Args:
            tokens: (B, N, C).
            features: (B, N, width) reused ones; None where there are none.
            relation: (B, H, N, N) to add to the attention's logits.
            keep: whether the logits are asked for.

        Returns:
            (B, N, C), and the logits (B, H, N, N) or None.
        """
        mixed, logits = self.attn(self.norm1(tokens), relation, keep)
        tokens = tokens + self.drop_path(mixed)
        inner = tokens if features is None else torch.cat((tokens, features), dim=-1)
        return tokens + self.drop_path(self.mlp(self.norm2(inner))), logits


@dataclass(frozen=True, eq=False)
class PartOutput(Output):
    """A part's answer, and what the next part reuses.

    Attributes:
        logits: (B, K).
        tokens: (B, N, C) output of the last block, not normalised.
        relations: (B, L*H, N, N) attention logits of all blocks, layer after layer; None where they are not reused.
    """

    tokens: Tensor
    relations: Tensor | None


class Part(PlainViT):
    """One of the three DeiTs; a part without one before it reuses nothing.

    Args:
        image_size: pixels a side, padded with zeros, alike on all sides, to a multiple of the patch size.
        old_grid: patches a side of the part before; None for the first.
        reuse: hidden width and width of the reused features; None where none are.
        relation_reuse: whether the attention's logits of the part before are reused.
        depth: transformer blocks.
        mlp_ratio: hidden width of the MLPs over C.
        drop_path_rate: stochastic depth in training.
        plain: further keywords of :class:`PlainViT`.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        old_grid: int | None,
        reuse: tuple[int, int] | None,
        relation_reuse: bool,
        num_heads: int,
        depth: int,
        mlp_ratio: float,
        drop_path_rate: float,
        **plain: Any,
    ) -> None:
        padding = -image_size % patch_size
        super().__init__(image_size + padding, patch_size, num_heads=num_heads, depth=0, **plain)
        self.padding, self.num_heads = padding // 2, num_heads
        self.feature_reuse = reuse is not None
        self.blocks = nn.ModuleList(
            ReuseBlock(self.num_features, num_heads, mlp_ratio, rate, reuse)
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.regrid: Any = None if old_grid is None else Regrid(old_grid, self.grid[0])
        self.relation_reuse_conv: Any = None
        if relation_reuse:
            maps = depth * num_heads
            layers = (nn.Conv2d(maps, 3 * maps, 1), nn.GELU(), nn.Conv2d(3 * maps, maps, 1))
            self.relation_reuse_conv = nn.Sequential(*layers)
        self.initialise()

    def run(self, images: Tensor, before: Any, keep: bool) -> PartOutput:
        """One part.

        Args:
            images: (B, 3, S, S), normalised.
            before: the :class:`PartOutput` of the part before; None for the first.
            keep: whether the next part reuses this one's relations.
        """
        tokens = self.embed(F.pad(images, (self.padding,) * 4) if self.padding else images)
        relations = self._mixed_relations(before)
        logits = list[Tensor]()
        for block, maps in zip(self.blocks, relations, strict=True):
            # One block's maps at a time: those of all blocks are large on the finer grid.
            relation = None if maps is None else self.regrid.relations(maps)
            tokens, own = block(tokens, self._features(block, before), relation, keep)
            logits.append(own)
        return PartOutput(self.classify(tokens), tokens, torch.cat(logits, dim=1) if keep else None)

    def _mixed_relations(self, before: Any) -> Sequence[Tensor | None]:
        """For every block (B, H, n, n) what it adds to its attention's logits, still on the old grid."""
        if self.relation_reuse_conv is None:
            return [None] * len(self.blocks)
        maps: tuple[Tensor, ...] = self.relation_reuse_conv(before.relations).split(self.num_heads, dim=1)
        return maps

    def _features(self, block: Any, before: Any) -> Tensor | None:
        """(B, N, width) what a block makes of the tokens before, on the new grid; zeros for the class token."""
        if not self.feature_reuse:
            return None
        return F.pad(self.regrid(block.feature_resuse_mlp(before.tokens[:, 1:]), 1), (0, 0, 1, 0))

    def published_macs(self) -> int:
        """MACs by the authors' arithmetic, see :meth:`lfvit_cli.networks.dvt.DVT.published_macs`."""
        layers, block, width, count = len(self.blocks), self.blocks[0], self.num_features, 1 + self.num_patches
        inner, hidden = block.mlp.fc1.in_features, block.mlp.fc1.out_features
        per_token = 4 * width**2 + 2 * count * width + hidden * (inner + width) + 5 * (width + inner)
        macs = self.num_patches * self.patch_embed.proj.weight.numel() + layers * count * per_token
        macs += count * 5 * width + width * self.num_classes
        if self.regrid is not None:
            old = self.regrid.old**2
            # Four doubled values for each old one are written, then read by the pooling.
            resized = 8 * old
            if self.feature_reuse:
                prepare = block.feature_resuse_mlp[1]
                weights = prepare.fc1.weight.numel() + prepare.fc2.weight.numel()
                macs += layers * ((1 + old) * (5 * width + weights) + resized * prepare.fc2.out_features)
            if self.relation_reuse_conv is not None:
                maps = layers * self.num_heads
                macs += (1 + old) ** 2 * 6 * maps**2 + maps * resized * (1 + old + count)
        return int(macs)
