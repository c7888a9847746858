"""Evo-ViT on DeiT: the patches the class token attends to run through the blocks, the others wait and rejoin."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.networks.errors import KeywordError
from lfvit_cli.networks.layers import (
    EPS,
    LayerGroups,
    PatchEmbedding,
    check_heads,
    class_attention_row,
    drop_path_rates,
    gather_tokens,
    init_weights,
    layer_groups,
    merge_heads,
    split_heads,
)
from lfvit_cli.networks.staged import PrunedOutput, StageOutput

Selection = Literal["stage", "layer"]


class QueryKey(nn.Module):
    """The query and key projection of one layer, under its published key."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qk = nn.Linear(dim, 2 * dim)


class Value(nn.Module):
    """The value projection of one layer, under its published key."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.v = nn.Linear(dim, dim)


class MlpBlock(nn.Module):
    """What the published layout leaves in ``blocks``: the second norm and the MLP."""

    def __init__(self, dim: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()


class EvoViT(nn.Module):
    """Slow-fast token evolution on DeiT (Xu et al., AAAI 2022, arXiv 2108.01390), as it answers at inference.

    Args:
        selection: ``stage`` re-selects before layers 4 and 8 (the released evaluation), ``layer`` before every
            layer from 4 on.
        keep_ratio: share of the patches that runs through the blocks once selection has begun.
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

    stages = ("full",)
    first_selection = 4
    layers_per_stage = 4

    def __init__(
        self,
        selection: Selection = "stage",
        keep_ratio: float = 0.5,
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
        check_heads(embed_dim, num_heads)
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_chans, embed_dim)
        self.image_size = img_size
        self.num_classes = num_classes
        self.num_features = embed_dim
        self.num_heads = num_heads
        patches = self.patch_embed.num_patches
        self.kept = _kept(patches, keep_ratio)
        self.selection_layers = selection_layers(selection, depth)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, embed_dim))
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim, eps=EPS) for _ in range(depth))
        self.qks: Any = nn.ModuleList(QueryKey(embed_dim) for _ in range(depth))
        self.vs: Any = nn.ModuleList(Value(embed_dim) for _ in range(depth))
        self.projs = nn.ModuleList(nn.Linear(embed_dim, embed_dim) for _ in range(depth))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks: Any = nn.ModuleList(MlpBlock(embed_dim, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)
        self.head = nn.Linear(embed_dim, num_classes)
        # The class token's head answers in training only.
        self.norm_cls = nn.LayerNorm(embed_dim, eps=EPS)
        self.head_cls = nn.Linear(embed_dim, num_classes)
        for parameter in (self.cls_token, self.pos_embed):
            trunc_normal_(parameter, std=0.02)
        self.apply(init_weights)

    def begin(self, images: Tensor) -> PrunedOutput:
        """(B, 3, S, S) normalised images to logits, and the patches chosen at each selection."""
        _, patches, kept = self.evolve(images, self.selection_layers)
        logits = self.head(self.norm(patches.mean(dim=1)))
        return PrunedOutput(logits, kept)

    def evolve(self, images: Tensor, selection_layers: Sequence[int]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """All layers, selecting anew before some of them.

        Args:
            images: (B, 3, S, S), normalised.
            selection_layers: ascending 0-based layers; the released training selects otherwise than at inference.

        Returns:
            The (B, 1, C) class token and the (B, N, C) patch tokens, before the norm; the patches of each selection.
        """
        patches = self.patch_embed(images) + self.pos_embed[:, 1:]
        token = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        attention = patches.new_zeros(patches.shape[:2], dtype=torch.float32)
        depth, kept = len(self.blocks), []
        # Later layers' class attention has nothing to select.
        rows = range(self.first_selection - 1, max(selection_layers, default=0))
        unpruned = range(min(self.first_selection, depth))
        token, patches, attention = self._run(unpruned, rows, token, patches, attention)
        for start, end in pairwise((*selection_layers, depth)):
            # The stable order makes the choice the same on every device, ties included.
            chosen = attention.sort(dim=1, descending=True, stable=True).indices[:, : self.kept].sort(dim=1).values
            kept.append(chosen)
            running, seen = gather_tokens(patches, chosen), attention.gather(1, chosen)
            token, running, seen = self._run(range(start, end), rows, token, running, seen)
            patches = patches.scatter(1, chosen.unsqueeze(-1).expand_as(running), running)
            attention = attention.scatter(1, chosen, seen)
        return token, patches, tuple(kept)

    def _run(
        self, layers: range, rows: range, token: Tensor, patches: Tensor, attention: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Some layers over (B, 1, C) class token, (B, n, C) patches and their (B, n) class attention so far."""
        tokens = torch.cat((token, patches), dim=1)
        for layer in layers:
            tokens, row = self._layer(layer, tokens, with_row=layer in rows)
            if row is not None:
                old = 0.0 if layer < self.first_selection else 0.5
                attention = old * attention + (1 - old) * row
        return tokens[:, :1], tokens[:, 1:], attention

    def _layer(self, layer: int, tokens: Tensor, *, with_row: bool) -> tuple[Tensor, Tensor | None]:
        """One block; also its class attention, summed over heads, where it is asked for."""
        block, normed = self.blocks[layer], self.norms[layer](tokens)
        query, key = split_heads(self.qks[layer].qk(normed), 2, self.num_heads)
        (value,) = split_heads(self.vs[layer].v(normed), 1, self.num_heads)
        mixed = self.projs[layer](merge_heads(F.scaled_dot_product_attention(query, key, value)))
        tokens = tokens + block.drop_path(mixed)
        tokens = tokens + block.drop_path(block.mlp(block.norm2(tokens)))
        return tokens, class_attention_row(query, key).sum(dim=1) if with_row else None

    def resume(self, images: Tensor, state: StageOutput) -> StageOutput:
        """Nothing follows the only stage."""
        raise NotImplementedError("Evo-ViT has a single stage")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, K) logits."""
        return self.begin(images).logits

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        return layer_groups(r"^(?:blocks|norms|qks|vs|projs)\.(\d+)")

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {"cls_token", "pos_embed"}


def _kept(patches: int, keep_ratio: float) -> int:
    kept = int(round(patches * keep_ratio, 9))
    if not 1 <= kept <= patches:
        raise KeywordError(f"keep_ratio={keep_ratio} keeps {kept} of {patches} patches", "Give a ratio in (0, 1].")
    return kept


def selection_layers(selection: str, depth: int) -> tuple[int, ...]:
    """The 0-based layers before which patches are selected.

    Raises:
        KeywordError: no such selection.
    """
    if selection not in get_args(Selection):
        raise KeywordError(
            f"selection={selection} is not a way to select", f"Use one of {', '.join(get_args(Selection))}."
        )
    step = EvoViT.layers_per_stage if selection == "stage" else 1
    return tuple(range(EvoViT.first_selection, depth, step))
