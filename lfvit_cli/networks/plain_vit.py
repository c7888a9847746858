"""A plain DeiT as a frame for methods that change what happens between or within its blocks."""

from typing import Any, ClassVar

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from lfvit_cli.networks.layers import (
    EPS,
    Block,
    LayerGroups,
    PatchEmbedding,
    drop_path_rates,
    init_weights,
    layer_groups,
)
from lfvit_cli.networks.stages import Output, Stage


class PlainViT(nn.Module):
    """DeiT under its published keys (Touvron et al., ICML 2021); subclasses override ``answer``.

    Attributes:
        has_class_token: whether there is one, before the patches.
        make_block: class of the blocks, created from width, heads, MLP ratio and stochastic depth.

    Args:
        img_size: pixels a side, a multiple of ``patch_size``.
        patch_size: pixels a side of a patch.
        num_classes: K.
        embed_dim: C.
        depth: transformer blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLPs over C.
        in_chans: image channels.
        drop_path_rate: stochastic depth in training.

    Raises:
        KeywordError: values that describe no network.
    """

    has_class_token: ClassVar[bool] = True
    make_block: ClassVar[type[nn.Module]] = Block

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        num_classes: int = 1000,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_chans, embed_dim)
        self.image_size, self.num_classes, self.num_features = img_size, num_classes, embed_dim
        self.num_patches: int = self.patch_embed.num_patches
        if self.has_class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.has_class_token + self.num_patches, embed_dim))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks: Any = nn.ModuleList(self.make_block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)
        self.head = nn.Linear(embed_dim, num_classes)
        self.initialise()

    def initialise(self) -> None:
        """Draw all weights; to be called again by a subclass that has added some."""
        tokens = self.no_weight_decay()
        for name, parameter in self.named_parameters():
            if name in tokens:
                trunc_normal_(parameter, std=0.02)
        self.apply(init_weights)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        height, width = self.patch_embed.grid_size
        return int(height), int(width)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised images to (B, 1 + N, C) tokens, the class token first, position added."""
        tokens: Tensor = self.patch_embed(images)
        if self.has_class_token:
            tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return tokens + self.pos_embed

    def classify(self, tokens: Tensor) -> Tensor:
        """(B, n, C) tokens, the class token first, to (B, K) logits."""
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits."""
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return Output(self.classify(tokens))

    def stages(self) -> tuple[Stage, ...]:
        """One stage."""
        return (Stage("full", self.answer),)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, K) logits."""
        return self.answer(images).logits

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        return layer_groups()

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {"cls_token", "pos_embed"}
