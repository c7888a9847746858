"""DVT: three DeiTs in a row on ever finer patches, each of which reuses what the one before has found."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.dvt_part import Part
from lfvit_cli.networks.layers import LayerGroups
from lfvit_cli.networks.method import Method, State, deit_sizes, register
from lfvit_cli.networks.stages import Stage, walk
from lfvit_cli.policies import ExitPolicy

# As the published checkpoints call the three, coarsest first.
PARTS = ("less_less_token", "less_token", "normal_token")


class DVT(nn.Module):
    """Dynamic Vision Transformer (Wang et al., NeurIPS 2021, arXiv 2105.15075) on DeiT.

    Args:
        img_size: pixels a side.
        patch_sizes: pixels a side of a patch in each part, largest first.
        feature_reuse: whether the MLPs reuse features of the part before.
        relation_reuse: whether the attention layers reuse attention logits of the part before.
        reuse_hidden: hidden width of what prepares the reused features.
        reuse_width: width of the reused features.
        num_classes: K.
        embed_dim: C.
        depth: transformer blocks of each part.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLPs over C.
        in_chans: image channels.
        drop_path_rate: stochastic depth in training.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_sizes: Sequence[int] = (32, 23, 16),
        feature_reuse: bool = True,
        relation_reuse: bool = True,
        reuse_hidden: int = 128,
        reuse_width: int = 48,
        num_classes: int = 1000,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.grids = check_patches(img_size, patch_sizes)
        if min(reuse_hidden, reuse_width, depth) < 1:
            raise KeywordError(
                f"reuse_hidden={reuse_hidden}, reuse_width={reuse_width} and depth={depth} leave nothing to reuse",
                "Give numbers of at least 1; feature_reuse=False reuses no features.",
            )
        self.image_size, self.num_classes, self.num_features = img_size, num_classes, embed_dim
        self.relation_reuse = relation_reuse
        for index, (name, patch_size) in enumerate(zip(PARTS, patch_sizes, strict=True)):
            part = Part(
                image_size=img_size,
                patch_size=patch_size,
                old_grid=self.grids[index - 1] if index else None,
                reuse=(reuse_hidden, reuse_width) if index and feature_reuse else None,
                relation_reuse=relation_reuse and index > 0,
                num_classes=num_classes,
                embed_dim=embed_dim,
                depth=depth,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                in_chans=in_chans,
                drop_path_rate=drop_path_rate,
            )
            self.add_module(name, part)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The three networks, coarsest first."""
        parts: tuple[Any, ...] = tuple(getattr(self, name) for name in PARTS)
        return parts

    def stages(self) -> tuple[Stage, ...]:
        """One stage for each grid."""
        return tuple(
            Stage(f"{side}x{side}", partial(part.run, keep=self.relation_reuse and part is not self.parts[-1]))
            for part, side in zip(self.parts, self.grids, strict=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to the (B, K) logits of the last part, for every image."""
        return walk(self.stages(), images).logits

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay: those of the same block in all parts."""
        return {"stem": r"^\w+\.(?:cls_token|pos_embed|patch_embed)", "blocks": [(r"^\w+\.blocks\.(\d+)", None)]}

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {f"{part}.{name}" for part in PARTS for name in ("cls_token", "pos_embed")}

    def published_macs(self) -> dict[str, int]:
        """MACs of each stage by the authors' arithmetic, counted as fvcore counts (batch 1).

        Theirs doubles and pools whole grids, prepares features of the class token, which nothing reads, and
        normalises every token before the head; a pooled or doubled value counts 1, a normalised one 5.
        """
        return {stage.name: part.published_macs() for stage, part in zip(self.stages(), self.parts, strict=True)}


def check_patches(img_size: int, patch_sizes: Any) -> tuple[int, ...]:
    """Patches a side of each part.

    Raises:
        KeywordError: not three sizes, grids that do not become finer, or an image that cannot be padded evenly.
    """
    sizes: tuple[Any, ...] = tuple(patch_sizes) if isinstance(patch_sizes, Sequence) else (patch_sizes,)
    if len(sizes) != len(PARTS) or not all(isinstance(size, int) and 0 < size <= img_size for size in sizes):
        raise KeywordError(
            f"patch_sizes={patch_sizes} does not fit three parts and images of {img_size} pixels a side",
            "Give three sizes, such as (32, 23, 16).",
        )
    grids = tuple(-(-img_size // size) for size in sizes)
    if list(grids) != sorted(set(grids)):
        raise KeywordError(
            f"patch_sizes={sizes} make grids of {', '.join(map(str, grids))} patches a side",
            "Give sizes that make every grid finer than the one before.",
        )
    odd = [size for size in sizes if -img_size % size % 2]
    if odd:
        raise KeywordError(
            f"images of {img_size} pixels a side cannot be padded evenly to patches of {odd[0]}",
            "Give another patch size or image size.",
        )
    return grids


def _from_vit(network: nn.Module, state: State) -> State:
    """A plain ViT's parameters in each part, patches and positions resampled; nothing is reused at first."""
    own = network.state_dict()
    found = {name: _fitted(name.partition(".")[2], place, state) for name, place in own.items()}
    return {name: value for name, value in found.items() if value is not None}


def _fitted(name: str, place: Tensor, state: State) -> Tensor | None:
    """A plain ViT's parameter for a place in a part; None where it has none."""
    # The last layer of what prepares the features, and of what mixes the relations.
    if ".feature_resuse_mlp.1.fc2." in name or name.startswith("relation_reuse_conv.2."):
        return torch.zeros_like(place)
    value = state.get(name)
    if value is None or (name.startswith("head.") and value.shape != place.shape):
        return None
    if name == "pos_embed":
        side = round((place.shape[1] - 1) ** 0.5)
        positions: Tensor = resample_abs_pos_embed(value.float(), new_size=[side, side], num_prefix_tokens=1)
        return positions
    if name == "patch_embed.proj.weight":
        patches: Tensor = resample_patch_embed(value.float(), new_size=list(place.shape[-2:]))
        return patches
    if name.endswith(("norm2.weight", "norm2.bias", "mlp.fc1.weight")) and value.shape[-1] < place.shape[-1]:
        # The reused features come last; what reads them starts as it was drawn.
        return torch.cat((value, place[..., value.shape[-1] :]), dim=-1)
    return value


METHOD = register(
    Method(
        family="DVT",
        network=DVT,
        models=deit_sizes("dvt"),
        evaluation={
            "first_conv": tuple(f"{part}.patch_embed.proj" for part in PARTS),
            "classifier": tuple(f"{part}.head" for part in PARTS),
        },
        policy=ExitPolicy.at(0.8, 0.7),
        checkpoint_key="less_less_token.cls_token",
        from_vit=_from_vit,
        training="the published loss: the sum over stages of the cross entropy",
        note="the authors choose thresholds for each budget and publish none: the default is our choice",
    )
)
