"""Evo-ViT on DeiT: the patches the class token attends to run through the blocks, the others wait and rejoin."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import (
    EPS,
    LayerGroups,
    check_heads,
    class_attention_row,
    descending,
    gather_tokens,
    layer_groups,
    merge_heads,
    split_heads,
)
from lfvit_cli.networks.method import BASE, SMALL, TINY, Method, Published, State, register
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Trace, kept_tokens

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

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()


class EvoViT(PlainViT):
    """Slow-fast token evolution on DeiT (Xu et al., AAAI 2022, arXiv 2108.01390), as it answers at inference.

    Args:
        selection: ``stage`` re-selects before layers 4 and 8 (the released evaluation), ``layer`` before every
            layer from 4 on.
        keep_ratio: share of the patches that runs through the blocks once selection has begun.
        plain: keywords of :class:`PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    first_selection = 4
    layers_per_stage = 4
    make_block = MlpBlock

    def __init__(self, selection: Selection = "stage", keep_ratio: float = 0.5, **plain: Any) -> None:
        super().__init__(**plain)
        depth, width = len(self.blocks), self.num_features
        self.kept = _kept(self.num_patches, keep_ratio)
        self.selection_layers = selection_layers(selection, depth)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=EPS) for _ in range(depth))
        self.qks: Any = nn.ModuleList(QueryKey(width) for _ in range(depth))
        self.vs: Any = nn.ModuleList(Value(width) for _ in range(depth))
        self.projs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        # The class token's head answers in training only.
        self.norm_cls = nn.LayerNorm(width, eps=EPS)
        self.head_cls = nn.Linear(width, self.num_classes)
        self.initialise()

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and the patches chosen at each selection."""
        _class_token, patches, kept = self.evolve(images, self.selection_layers)
        logits = self.head(self.norm(patches.mean(dim=1)))
        traces: list[Trace] = [
            kept_tokens(chosen, self.grid, f"layer {layer}")
            for layer, chosen in zip(self.selection_layers, kept, strict=True)
        ]
        return Output(logits, traces=tuple(traces))

    def evolve(self, images: Tensor, selection_layers: Sequence[int]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """All layers, selecting anew before some of them.

        Args:
            images: (B, 3, S, S), normalised.
            selection_layers: ascending 0-based layers; the released training selects otherwise than at inference.

        Returns:
            The (B, 1, C) class token and the (B, N, C) patch tokens, before the norm; the patches of each selection.
        """
        tokens = self.embed(images)
        token, patches = tokens[:, :1], tokens[:, 1:]
        attention = patches.new_zeros(patches.shape[:2], dtype=torch.float32)
        depth, kept = len(self.blocks), []
        # Later layers' class attention has nothing to select.
        rows = range(self.first_selection - 1, max(selection_layers, default=0))
        unpruned = range(min(self.first_selection, depth))
        token, patches, attention = self._run(unpruned, rows, token, patches, attention)
        for start, end in pairwise((*selection_layers, depth)):
            chosen = descending(attention)[:, : self.kept].sort(dim=1).values
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
        query, key = split_heads(self.qks[layer].qk(normed), 2, block.num_heads)
        (value,) = split_heads(self.vs[layer].v(normed), 1, block.num_heads)
        mixed = self.projs[layer](merge_heads(F.scaled_dot_product_attention(query, key, value)))
        tokens = tokens + block.drop_path(mixed)
        tokens = tokens + block.drop_path(block.mlp(block.norm2(tokens)))
        return tokens, class_attention_row(query, key).sum(dim=1) if with_row else None

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        return layer_groups(r"^(?:blocks|norms|qks|vs|projs)\.(\d+)")


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


def _from_vit(_network: nn.Module, state: State) -> State:
    """The parts of attention lie in lists beside the blocks, and queries and keys apart from values."""
    names = {"norm1": "norms.{}.", "attn.proj": "projs.{}."}
    translated: State = {}
    for name, value in state.items():
        part = re.fullmatch(r"blocks\.(\d+)\.(norm1|attn\.proj|attn\.qkv)\.(weight|bias)", name)
        if part is None:
            translated[name] = value
        elif part[2] == "attn.qkv":
            width = len(value) // 3
            translated[f"qks.{part[1]}.qk.{part[3]}"] = value[: 2 * width]
            translated[f"vs.{part[1]}.v.{part[3]}"] = value[2 * width :]
        else:
            translated[names[part[2]].format(part[1]) + part[3]] = value
    # The backbone's last norm has served the class token, too.
    return translated | {f"norm_cls.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias")}


METHOD = register(
    Method(
        family="Evo-ViT",
        network=EvoViT,
        models={
            "evo_deit_tiny_patch16_224": TINY,
            "evo_deit_small_patch16_224": SMALL,
            "evo_deit_base_patch16_224": BASE,
        },
        published={
            "evo_deit_tiny_patch16_224": (Published(72.0, None, "Evo-ViT, Table 1"),),
            "evo_deit_small_patch16_224": (Published(79.4, 3.0, "Evo-ViT, Table 1"),),
            "evo_deit_base_patch16_224": (Published(81.3, None, "Evo-ViT, Table 1"),),
        },
        checkpoint_key="qks.0.qk.weight",
        from_vit=_from_vit,
        training="the published loss: half on the patches' mean, half on the class token; selection by layer at first",
    )
)
