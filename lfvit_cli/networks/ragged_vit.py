"""DeiT that takes each image as many tokens as it needs: the frame of ATS, A-ViT and SPViT; and what an image costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.networks.layers import Block, merge_heads, split_heads
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.ragged import Layout
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.traces import Tokens


@dataclass(frozen=True, eq=False)
class RaggedOutput(Output):
    """An answer for which images had different numbers of tokens.

    Attributes:
        attended: (B, L) tokens of each image that enter block l and are attended to, the class token among them.
        updated: (B, L) tokens that leave the attention of block l and go through its MLP.
    """

    attended: Tensor
    updated: Tensor


class RaggedViT(PlainViT):
    """The frame; a subclass drops tokens in ``answer``, by :meth:`lfvit_cli.networks.ragged.Layout.only`.

    Each token of a batch has an id: token t of image b is b * W + t, where the class token is 0 and the patches are
    1 to N in raster order. In training, tokens are masked rather than dropped, to the same effect.
    """

    def stages(self) -> tuple[Stage, ...]:
        """One stage, whose cost depends on the image."""
        return (Stage("full", self.answer, macs=self.macs_of),)

    @property
    def identities(self) -> int:
        """W: tokens that an image has in the course of all blocks."""
        return 1 + self.num_patches

    def identify(self, tokens: Tensor) -> Tensor:
        """(B, 1 + N, C) tokens, as embedded, to their (B, 1 + N) ids."""
        image, token = (torch.arange(count, device=tokens.device) for count in tokens.shape[:2])
        return image.unsqueeze(1) * self.identities + token

    def spread(self, values: Tensor, ids: Tensor, layout: Layout, batch: int) -> Tensor:
        """What lies as the tokens do, one value each, as (B, W) by their ids; 0 where there is no token."""
        if layout.slots is None and layout.present is not None:
            values = values * layout.present
        flat = values.new_zeros(batch * self.identities)
        return flat.scatter(0, ids.flatten(), values.flatten()).view(batch, -1)

    def patches(self, ids: Tensor, layout: Layout, batch: int) -> Tensor:
        """(B, N) whether each patch's token is still there, given the ids as the tokens lie."""
        there = self.spread(torch.ones_like(ids), ids, layout, batch)
        return there[:, 1 : 1 + self.num_patches] > 0

    def trace(self, there: Tensor, name: str) -> Tokens:
        """What a picture shows, given (B, N) whether each patch's token is there."""
        patch = torch.arange(self.num_patches, device=there.device)
        return Tokens(torch.where(there, patch, -1).unflatten(1, self.grid), name)

    def attend(self, block: Block, tokens: Tensor, layout: Layout) -> Tensor:
        """The first half of a block: tokens, that lie as the layout says, to the same."""
        query, key, value = split_heads(layout.rows(block.attn.qkv(block.norm1(tokens))), 3, block.attn.num_heads)
        mixed = layout.flat(mix(query, key, value, layout))
        attended: Tensor = tokens + block.drop_path(block.attn.proj(mixed))
        return attended

    def macs_of(self, output: RaggedOutput) -> Tensor:
        """(B,) MACs that each image of an answer takes when it is alone, as :mod:`lfvit_cli.cost` counts them.

        In a batch, attention runs in rows as long as the longest; all else takes no more than this.
        """
        return self._macs(output.attended, output.updated)

    def decision_macs(self, attended: Tensor, updated: Tensor) -> Tensor:  # noqa: ARG002  # for those that override it
        """(B,) of which for deciding what is dropped, given the fields of an output."""
        return torch.zeros_like(attended[:, 0])

    def masked_macs(self, counts: Sequence[int]) -> int:
        """MACs of an implementation that masks tokens and runs all (fvcore, batch 1), given how many in each block."""
        full = torch.tensor([counts], device="cpu")
        norm_of_others = 5 * self.num_features * (counts[-1] - 1)
        return int(self._macs(full, full)) + norm_of_others

    def _macs(self, attended: Tensor, updated: Tensor) -> Tensor:
        width, norm = self.num_features, 5 * self.num_features
        hidden = self.blocks[0].mlp.fc1.out_features
        outside = self.num_patches * self.patch_embed.proj.weight.numel() + norm + width * self.num_classes
        apart = attended * (3 * width**2 + norm) + updated * (width**2 + 2 * width * hidden + norm)
        mixing = 2 * width * attended * updated
        total: Tensor = (apart + mixing).sum(dim=1) + outside + self.decision_macs(attended, updated)
        return total


def mix(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """Attention within each image: (B, H, n, d) queries, (B, H, m, d) keys in the layout's rows, to (B, n, C) rows."""
    return merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=layout.mask()))
