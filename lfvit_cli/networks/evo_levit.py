"""Evo-ViT on LeViT: in most layers one representative token stands for the patches that are attended to least."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from lfvit_cli.networks.evo_vit import Selection
from lfvit_cli.networks.layers import descending, gather_tokens, init_weights
from lfvit_cli.networks.levit_layers import (
    AttentionLayer,
    Downsampling,
    MlpLayer,
    NormLinear,
    conv_stem,
    with_counters,
)
from lfvit_cli.networks.levit_shape import StageShape, stage_shapes
from lfvit_cli.networks.method import Method, Published, State, register
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.traces import Heat, Tokens, Trace


class Chosen(NamedTuple):
    """One selection.

    Attributes:
        layer: the first layer that it is for.
        attention: (B, n^2) global class attention G of the patches, by which they are chosen.
        kept: (B, k) patches kept, most attended first.
    """

    layer: int
    attention: Tensor
    kept: Tensor


class PrunedGroup(nn.Module):
    """Layers that run on the class token, the patches of the largest G, and one token for all others.

    Args:
        layers: attention and MLP, in turn.
        first: the first layer's number in the network.
        kept_at_once: patches kept for all layers together.
        kept_by_layer: patches kept by each layer where all select anew.
    """

    def __init__(
        self, layers: Sequence[nn.Module], first: int, kept_at_once: int, kept_by_layer: Sequence[int]
    ) -> None:
        super().__init__()
        self.m: Any = nn.ModuleList(layers)
        self.first, self.kept_at_once, self.kept_by_layer = first, kept_at_once, tuple(kept_by_layer)

    def forward(
        self, tokens: Tensor, attention: Tensor, selection: Selection, *, tracked: bool
    ) -> tuple[Tensor, Tensor, list[Chosen]]:
        """All layers.

        Args:
            tokens: (B, 1 + n^2, C) class token and patches in raster order.
            attention: (B, n^2) G of the patches.
            selection: ``stage`` selects once, ``layer`` before each layer.
            tracked: whether G is needed afterwards.

        Returns:
            The tokens in the same order, their G, and each selection.
        """
        layers, chosen = list(self.m), list[Chosen]()
        learned = selection == "stage"
        runs = [(layers, self.kept_at_once)]
        if not learned:
            runs = [(layers[2 * place : 2 * place + 2], kept) for place, kept in enumerate(self.kept_by_layer)]
        for place, (run, count) in enumerate(runs):
            kept = descending(attention)[:, :count]
            chosen.append(Chosen(self.first + place, attention, kept))
            needed = tracked or place < len(runs) - 1
            tokens, attention = evolve(run, tokens, attention, kept, learned=learned, tracked=needed)
        return tokens, attention, chosen


def evolve(
    layers: Sequence[nn.Module], tokens: Tensor, attention: Tensor, kept: Tensor, *, learned: bool, tracked: bool
) -> tuple[Tensor, Tensor]:
    """Slow-fast token evolution (section 3.3): kept patches run, the others gain what their representative gains.

    Args:
        layers: attention and MLP, in turn.
        tokens: (B, 1 + n^2, C) class token and patches in raster order.
        attention: (B, n^2) G of the patches.
        kept: (B, k) patches that run.
        learned: whether G takes a learned share of each layer's attention, rather than a half.
        tracked: whether G is needed afterwards.

    Returns:
        The tokens in the same order, and their G; patches that do not run keep theirs.
    """
    patches = tokens[:, 1:]
    weights = attention.scatter(1, kept, 0.0)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(tokens.dtype)
    representative = weights.unsqueeze(1) @ patches
    running = torch.cat((tokens[:, :1], gather_tokens(patches, kept), representative), dim=1)
    seen = attention.gather(1, kept)
    for layer in layers:
        if tracked and isinstance(layer, AttentionLayer):
            running, seen = layer.tracking(running, seen, learned=learned)
        else:
            running = layer(running)
    patches = patches + (running[:, -1:] - representative)
    patches = patches.scatter(1, kept.unsqueeze(-1).expand(-1, -1, patches.shape[-1]), running[:, 1:-1])
    return torch.cat((running[:, :1], patches), dim=1), attention.scatter(1, kept, seen)


class EvoLeViT(nn.Module):
    """Slow-fast token evolution on LeViT (Xu et al., AAAI 2022, arXiv 2108.01390).

    Args:
        C: widths of the three stages, as a tuple or as "128_256_384".
        D: key width of a head.
        N: attention heads of the three stages, likewise.
        X: layers of the three stages, likewise.
        prune_ratio: the share of patches that each layer keeps where it selects anew, 1 for layers that run on all of
            them; and the share that the other layers of each stage keep together. None for the published: 1 in the
            first two layers, else a half.
        distillation: whether there are heads that learn from a teacher; the answer is then the mean of two heads.
        num_classes: K.
        img_size: pixels a side, a multiple of 16.
        in_chans: image channels.
        drop_path: stochastic depth in training, the same in all layers.
        drop_path_rate: the same under its usual name.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self,
        C: Any = "128_256_384",  # noqa: N803  # the published names
        D: int = 16,  # noqa: N803
        N: Any = "4_6_8",  # noqa: N803
        X: Any = "2_3_4",  # noqa: N803
        prune_ratio: Any = None,
        distillation: bool = True,
        num_classes: int = 1000,
        img_size: int = 224,
        in_chans: int = 3,
        drop_path: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        shapes = stage_shapes(C, D, N, X, prune_ratio, img_size)
        width, self.sides = shapes[0].width, tuple(shape.side for shape in shapes)
        self.image_size, self.num_classes, self.num_features = img_size, num_classes, shapes[-1].width
        self.patch_embed: Any = conv_stem(in_chans, width // 8, width // 4, width // 2, width, activated=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.poss = nn.Parameter(torch.zeros(1, 1 + self.sides[0] ** 2, width))
        self.stage_blocks: Any = nn.ModuleList(_entries(shapes, D, drop_path or drop_path_rate))
        self.last_group = max(
            (place for place, entry in enumerate(self.stage_blocks) if isinstance(entry, PrunedGroup)), default=-1
        )
        self.distillation = distillation
        # The class token's heads answer in training only.
        self.head, self.head_cls = (NormLinear(self.num_features, num_classes) for _ in range(2))
        if distillation:
            self.head_dist, self.head_cls_dist = (NormLinear(self.num_features, num_classes) for _ in range(2))
        self.apply(init_weights)
        for name in self.no_weight_decay():
            trunc_normal_(self.get_parameter(name), std=0.02)

    def stages(self) -> tuple[Stage, ...]:
        """One stage."""
        return (Stage("full", self.answer),)

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and what each group of pruned layers kept and why."""
        _class_token, patches, chosen = self.evolve(images)
        features = patches.mean(dim=1)
        logits = self.head(features)
        if self.distillation:
            logits = (logits + self.head_dist(features)) / 2
        return Output(logits, traces=tuple(trace for each in chosen for trace in self.traces(each)))

    def evolve(self, images: Tensor, selection: Selection = "stage") -> tuple[Tensor, Tensor, tuple[Chosen, ...]]:
        """All layers.

        Args:
            images: (B, 3, S, S), normalised.
            selection: ``stage`` selects once in each stage; ``layer``, as in the first part of the published training,
                before each pruned layer, and mixes G half and half instead of by a learned share.

        Returns:
            The (B, C) class token and the (B, n^2, C) patches, and every selection.
        """
        learned, chosen = selection == "stage", list[Chosen]()
        tokens, attention = self.embed(images), None
        for place, entry in enumerate(self.stage_blocks):
            if isinstance(entry, PrunedGroup):
                # G has nothing left to select after the last group.
                tokens, attention, new = entry(tokens, attention, selection, tracked=place < self.last_group)
                chosen += new
            elif place > self.last_group or isinstance(entry, MlpLayer):
                tokens = entry(tokens)
            else:
                tokens, attention = entry.tracking(tokens, attention, learned=learned)
        return tokens[:, 0], tokens[:, 1:], tuple(chosen)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised images to (B, 1 + n^2, C) tokens, the class token first, position added."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        return torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1) + self.poss

    def traces(self, chosen: Chosen) -> tuple[Trace, ...]:
        """What a picture shows of a selection: G, and the token of each patch of the first map.

        A patch at row r and column c of a map of every s-th row and column has there the place (s r, s c). The patches
        that share the representative token have one id behind all of these.
        """
        stage = self.sides.index(math.isqrt(chosen.attention.shape[1]))
        whole, side, stride = self.sides[0], self.sides[stage], 2**stage
        rows = torch.arange(whole, device=chosen.kept.device)
        places = (whole * rows[::stride].unsqueeze(1) + rows[::stride]).flatten()
        owner = torch.full_like(chosen.attention, whole**2, dtype=torch.long).scatter(
            1, chosen.kept, places[chosen.kept]
        )
        owner = owner.unflatten(1, (side, side))[:, rows // stride][:, :, rows // stride]
        heat = chosen.attention.unflatten(1, (side, side))
        return Heat(heat, f"class attention before layer {chosen.layer}"), Tokens(owner, f"layer {chosen.layer}")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, K) logits."""
        return self.answer(images).logits

    def adapt_checkpoint(self, state: State) -> State:
        """A published file's parameters under this network's names.

        The file names those of the layers twice. Under ``stage_blocks`` they answer; under ``blocks`` are the same
        tensors, as selection by layer has them.
        """
        if any(name.startswith("stage_blocks.") for name in state):
            state = {name: value for name, value in state.items() if not name.startswith("blocks.")}
        return with_counters(self, state)

    def published_macs(self) -> dict[str, int]:
        """MACs by the authors' arithmetic, counted as fvcore counts (batch 1).

        Theirs has the class attention for nothing, as it forms whole attention matrices, and the representative token,
        as it is summed without a matrix product.
        """
        total, side = 0, self.image_size
        for convolution in self.patch_embed[::2]:
            side //= 2
            total += side**2 * convolution.macs
        tokens = 1 + side**2
        for entry in self.stage_blocks:
            if isinstance(entry, PrunedGroup):
                total += sum(layer.macs(1 + entry.kept_at_once + 1) for layer in entry.m)
            else:
                total += entry.macs(tokens)
            if isinstance(entry, Downsampling):
                tokens = entry.tokens_left
        heads = (self.head, self.head_dist) if self.distillation else (self.head,)
        return {"full": total + sum(head.macs for head in heads)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        grouped, alone = r"^stage_blocks\.(\d+)\.m\.(\d+)\.m\.", r"^stage_blocks\.(\d+)\."
        return {"stem": r"^cls_token|^poss|^patch_embed", "blocks": [(grouped, None), (alone, None)]}

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {name for name, _ in self.named_parameters() if re.search(r"^cls_token$|(^|\.)poss$", name)}


def _entries(stages: Sequence[StageShape], key_dim: int, drop_path: float) -> Iterator[nn.Module]:
    """The network's layers, numbered as published: a group of pruned layers is one entry."""

    def layer(stage: StageShape) -> tuple[nn.Module, nn.Module]:
        return AttentionLayer(stage.width, key_dim, stage.heads, drop_path), MlpLayer(stage.width, drop_path)

    for place, stage in enumerate(stages):
        if place:
            before = stages[place - 1]
            yield Downsampling(before.width, stage.width, key_dim, before.side)
            yield MlpLayer(stage.width, drop_path)
        for _ in range(stage.whole):
            yield from layer(stage)
        if stage.kept_by_layer:
            pruned = [module for _ in stage.kept_by_layer for module in layer(stage)]
            yield PrunedGroup(pruned, stage.first + stage.whole, stage.kept_at_once, stage.kept_by_layer)


METHOD = register(
    Method(
        family="Evo-LeViT",
        network=EvoLeViT,
        models={
            "evo_levit_128s": {"C": (128, 256, 384), "D": 16, "N": (4, 6, 8), "X": (2, 3, 4)},
            "evo_levit_128": {"C": (128, 256, 384), "D": 16, "N": (4, 8, 12), "X": (4, 4, 4)},
            "evo_levit_192": {"C": (192, 288, 384), "D": 32, "N": (3, 5, 6), "X": (4, 4, 4)},
            "evo_levit_256": {"C": (256, 384, 512), "D": 32, "N": (4, 6, 8), "X": (4, 4, 4)},
            "evo_levit_384": {"C": (384, 512, 768), "D": 32, "N": (6, 9, 12), "X": (4, 4, 4)},
        },
        published={
            f"evo_levit_{size}": (Published(top1, None, "Evo-ViT, README"),)
            for size, top1 in (("128s", 73.0), ("128", 74.4), ("192", 76.8), ("256", 78.8), ("384", 80.7))
        },
        evaluation={"first_conv": "patch_embed.0.c", "classifier": ("head.l", "head_dist.l")},
        checkpoint_key="stage_blocks.0.m.learn_tradeoff",
        from_vit=lambda _network, _state: {},
        starts_from="a checkpoint of Evo-LeViT",
        training="the published loss: patches' mean and class token, half on a teacher's classes; selection by layer at"
        " first",
    )
)
