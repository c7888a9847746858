"""LF-ViT written plainly, as its description reads: the same answers, without any of the runtime's economies.

Whole attention maps in every layer, all fine patches embedded, all cells reused, a loop over the windows, and never
compiled. ``lfvit bench lf_deit_small plain_lf_deit_small --import tests/networks/plain_lf_vit.py`` times both.
"""

import math
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.networks.lf_vit import FocusOutput, LFViT
from lfvit_cli.networks.method import EVALUATION, SMALL
from lfvit_cli.networks.stages import Stage
from lfvit_cli.networks.two_grids import CoarseOutput

BETA, ALPHA = 0.99, 0.88

default_cfgs = generate_default_cfgs({"plain_lf_deit_small": EVALUATION})


class PlainLFViT(LFViT):
    """The same parameters under the same names."""

    def stages(self) -> tuple[Stage, ...]:
        """Two, without a preparation."""
        return (
            Stage("location", lambda images, _: self.plain_location(images)),
            Stage("focus", lambda images, state: self.plain_focus(images, state)),
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def plain_location(self, images: Tensor) -> CoarseOutput:
        """The location pass."""
        small = F.interpolate(images, size=self.image_size // 2, mode="bilinear", align_corners=True)
        embedded = torch.cat((self.cls_token.expand(len(images), -1, -1), self.patch_embed(small)), dim=1)
        tokens = embedded = embedded + self.pos_embed_list[0]
        accumulated: Any = 0
        for layer, block in enumerate(self.blocks):
            tokens, attention = plain_block(block, tokens)
            if layer in self.attention_weights:
                accumulated = BETA * accumulated + (1 - BETA) * attention.float()
        tokens = self.norm(tokens)
        attended = accumulated.mean(dim=1)[:, 0, 1:]
        return CoarseOutput(self.head(tokens[:, 0]), attended, embedded[:, 1:], tokens[:, 1:])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def plain_focus(self, images: Tensor, state: CoarseOutput) -> FocusOutput:
        """The focus pass."""
        windows, region = self.windows(), []
        for attended in state.class_attention:
            scores = [float(attended[cells].sum()) for cells in windows]
            region.append(scores.index(max(scores)))
        kept, coarse = self.split(state.class_attention, [windows[window] for window in region])
        fine = self.patch_embed.proj(images).flatten(2).transpose(1, 2) + self.upsampled(
            self.reuse_block(state.features)
        )
        fine = fine + self.pos_embed_list[1][:, 1:]
        side = 2 * self.grid
        corner = 2 * side * (kept // self.grid) + 2 * (kept % self.grid)
        places = torch.stack((corner, corner + 1, corner + side, corner + side + 1), dim=-1).flatten(1)
        width = fine.shape[-1]
        chosen = fine.gather(1, places.unsqueeze(-1).expand(-1, -1, width))
        others = state.embeddings.gather(1, coarse.unsqueeze(-1).expand(-1, -1, width))
        token = (self.cls_token + self.pos_embed_list[1][:, :1]).expand(len(images), -1, -1)
        tokens = torch.cat((token, chosen, others), dim=1)
        for block in self.blocks:
            tokens, _ = plain_block(block, tokens)
        logits = self.head(self.norm(tokens)[:, 0])
        return FocusOutput(logits, kept, coarse, self.grid, torch.tensor(region, device=images.device))

    def windows(self) -> list[list[int]]:
        """The cells of every window."""
        side = math.isqrt(self.selector.window_cells.shape[1])
        starts = range(self.grid - side + 1)
        return [
            [self.grid * (top + y) + left + x for y in range(side) for x in range(side)]
            for top in starts
            for left in starts
        ]

    def split(self, attention: Tensor, windows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """The cells kept within each image's window, and all others."""
        kept, coarse = [], []
        for attended, cells in zip(attention, windows, strict=True):
            ranked = sorted(cells, key=lambda cell, attended=attended: -float(attended[cell]))  # type: ignore[misc]
            kept.append(ranked[: math.ceil(round(ALPHA * len(cells), 9))])
            coarse.append([cell for cell in range(self.grid**2) if cell not in kept[-1]])
        return torch.tensor(kept, device=attention.device), torch.tensor(coarse, device=attention.device)

    def upsampled(self, reused: Tensor) -> Tensor:
        """(B, s*s, C) to the fine grid (B, 4*s*s, C), the nearest cell's."""
        batch, _, width = reused.shape
        cells = reused.transpose(1, 2).reshape(batch, width, self.grid, self.grid)
        return F.interpolate(cells, scale_factor=2, mode="nearest").flatten(2).transpose(1, 2)


def plain_block(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """A block with its whole attention map."""
    attention, normed = block.attn, block.norm1(tokens)
    batch, count, width = normed.shape
    split = attention.qkv(normed).reshape(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = split.unbind(0)
    weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
    tokens = tokens + attention.proj((weights @ value).transpose(1, 2).reshape(batch, count, width))
    return tokens + block.mlp(block.norm2(tokens)), weights


@register_model  # type: ignore[untyped-decorator]  # timm's
def plain_lf_deit_small(pretrained: bool = False, **keywords: Any) -> nn.Module:
    """Of DeiT-S's width."""
    network: nn.Module = build_model_with_cfg(PlainLFViT, "plain_lf_deit_small", pretrained, **(SMALL | keywords))
    return network
