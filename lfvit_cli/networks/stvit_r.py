"""STViT-R on Swin: in its third stage 36 semantic tokens stand in for 196 patches, which recover from them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import check_heads, drop_path_rates, init_weights
from lfvit_cli.networks.levit_layers import conv_stem, with_counters
from lfvit_cli.networks.method import Method, Published, State, register
from lfvit_cli.networks.semantic_layers import (
    GRID,
    TOKENS,
    WINDOW,
    WINDOWS,
    CrossBlock,
    RecoveryBlock,
    SemanticBlock,
    TokenBlock,
    owners,
)
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.swin_layers import NORM_MACS, SWIN_EPS, PatchMerging, SwinBlock
from lfvit_cli.networks.traces import Tokens

IMAGE_SIZE = 224
# Cells a side of the map in each stage; the third has semantic tokens, and layers in dumbbells of six.
GRIDS, SEMANTIC_STAGE, DUMBBELL = (56, 28, GRID, 7), 2, 6
# Options of the released code that the released networks do not use, with the values that they have there.
UNUSED: dict[str, Any] = {
    "multi_scale": "multi_scale_semantic_token1",
    "use_conv_pos": False,
    "shortcut": False,
    "use_global": False,
    "relative_pos": False,
}
# What a published file holds besides parameters, and this network computes.
COMPUTED = (".relative_position_index", ".attn_mask")
SIZES = {"small": (96, (3, 6, 12, 24)), "base": (128, (4, 8, 16, 32))}


class ConvStem(nn.Module):
    """Two convolutions in place of Swin's patches of 4 x 4 pixels."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj: Any = conv_stem(in_chans, dim // 2, dim, activated=True)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images to (B, S/4, S/4, C) maps."""
        maps: Tensor = self.proj(images).permute(0, 2, 3, 1)
        return maps


class SwinStage(nn.Module):
    """An ordinary stage of Swin: windows as they are and rolled, in turn; and the merging that ends it."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, rates: Sequence[float], *, stage: int) -> None:
        super().__init__()
        self.grid = GRIDS[stage]
        self.blocks: Any = nn.ModuleList(
            SwinBlock(dim, num_heads, self.grid, WINDOW, layer % 2 == 1, mlp_ratio, rate)
            for layer, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(dim) if stage + 1 < len(GRIDS) else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(B, h, w, C) to (B, h/2, w/2, 2C), or as large and wide as before if this is the last stage."""
        for block in self.blocks:
            maps = block(maps)
        merged: Tensor = self.downsample(maps)
        return merged

    def published_macs(self) -> int:
        """See :meth:`STViTR.published_macs`."""
        merging = self.downsample.macs(self.grid**2) if isinstance(self.downsample, PatchMerging) else 0
        total: int = merging + sum(block.macs() for block in self.blocks)
        return total


class SemanticStage(nn.Module):
    """The third stage: dumbbells of six layers, and the merging that ends it."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, rates: Sequence[float]) -> None:
        super().__init__()
        self.dim = dim
        self.blocks: Any = nn.ModuleList()
        for place in range(0, len(rates), DUMBBELL):
            window, semantic, cross, local, wide, recovery = rates[place : place + DUMBBELL]
            common = (dim, num_heads, mlp_ratio)
            self.blocks += [
                SwinBlock(dim, num_heads, GRID, WINDOW, False, mlp_ratio, window),
                SemanticBlock(*common, semantic),
                CrossBlock(*common, cross),
                TokenBlock(WINDOWS**2, *common, local),
                TokenBlock(1, *common, wide),
                RecoveryBlock(*common, recovery),
            ]
        self.downsample = PatchMerging(dim)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, 14, 14, C) to (B, 7, 7, 2C)."""
        blocks = list(self.blocks)
        for place in range(0, len(blocks), DUMBBELL):
            window, semantic, cross, local, wide, recovery = blocks[place : place + DUMBBELL]
            maps = window(maps)
            tokens = semantic(maps)
            patches = maps.flatten(1, 2)
            tokens = wide(local(cross(tokens, patches)))
            maps = recovery(patches, tokens).unflatten(1, maps.shape[1:3])
        merged: Tensor = self.downsample(maps)
        return merged

    def published_macs(self) -> int:
        """See :meth:`STViTR.published_macs`."""
        # The released code runs one norm over the tokens once more in each dumbbell.
        once_more = len(self.blocks) // DUMBBELL * NORM_MACS * TOKENS * self.dim
        total: int = once_more + sum(block.macs() for block in self.blocks) + self.downsample.macs(GRID**2)
        return total


class STViTR(nn.Module):
    """Semantic tokens with recovery (Chang et al., CVPR 2023), on Swin.

    Args:
        embed_dim: E; the stages are E, 2E, 4E and 8E wide.
        depths: layers of the four stages; those of the third come in dumbbells of six.
        num_heads: attention heads of the four stages.
        window_size: cells a side of a window; 7.
        num_classes: K.
        img_size: pixels a side; 224, as the windows' neighbourhoods fit a map of 14 x 14 patches.
        in_chans: image channels.
        mlp_ratio: hidden width of the MLPs over their width.
        drop_path_rate: stochastic depth in training, growing from 0 over the layers.
        multi_scale: this and all that follow are options of the released code that the published networks do not use;
            only their published values are taken.
        use_conv_pos: see ``multi_scale``.
        shortcut: see ``multi_scale``.
        use_global: see ``multi_scale``.
        relative_pos: see ``multi_scale``.

    Raises:
        KeywordError: values that describe no network.
    """

    owner: Tensor

    def __init__(
        self,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = WINDOW,
        num_classes: int = 1000,
        img_size: int = IMAGE_SIZE,
        in_chans: int = 3,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        multi_scale: str = UNUSED["multi_scale"],
        use_conv_pos: bool = False,
        shortcut: bool = False,
        use_global: bool = False,
        relative_pos: bool = False,
    ) -> None:
        super().__init__()
        _check_options(
            multi_scale=multi_scale,
            use_conv_pos=use_conv_pos,
            shortcut=shortcut,
            use_global=use_global,
            relative_pos=relative_pos,
        )
        _check_sizes(embed_dim, depths, num_heads, window_size, img_size)
        self.image_size, self.num_classes, self.num_features = img_size, num_classes, 8 * embed_dim
        self.patch_embed = ConvStem(in_chans, embed_dim)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.layers: Any = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            common = (embed_dim * 2**stage, heads, mlp_ratio, [next(rates) for _ in range(depth)])
            self.layers.append(SemanticStage(*common) if stage == SEMANTIC_STAGE else SwinStage(*common, stage=stage))
        self.first_semantic = sum(depths[:SEMANTIC_STAGE]) + 1
        self.norm = nn.LayerNorm(self.num_features, eps=SWIN_EPS)
        self.head = nn.Linear(self.num_features, num_classes)
        self.register_buffer("owner", owners(), persistent=False)
        self.apply(init_weights)

    def stages(self) -> tuple[Stage, ...]:
        """One stage."""
        return (Stage("full", self.answer),)

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, 224, 224) normalised images to logits, and the semantic token that each patch first belongs to."""
        maps = self.patch_embed(images)
        for stage in self.layers:
            maps = stage(maps)
        logits = self.head(self.norm(maps).mean(dim=(1, 2)))
        owner = self.owner.expand(logits.shape[0], -1, -1)
        return Output(logits, traces=(Tokens(owner, f"layer {self.first_semantic}"),))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 224, 224) to (B, K) logits."""
        return self.answer(images).logits

    def adapt_checkpoint(self, state: State) -> State:
        """A published file's parameters, without what this network computes."""
        return with_counters(self, {name: value for name, value in state.items() if not name.endswith(COMPUTED)})

    def published_macs(self) -> dict[str, int]:
        """MACs by the authors' arithmetic, counted as fvcore counts (batch 1).

        Theirs project each window's neighbourhood apart, though these overlap, and run a norm over the 36 tokens three
        times more in each dumbbell.
        """
        side, total = self.image_size, self.num_features * (5 * GRIDS[-1] ** 2 + self.num_classes)
        for convolution in self.patch_embed.proj[::2]:
            side //= 2
            total += side**2 * convolution.macs
        return {"full": total + sum(stage.published_macs() for stage in self.layers)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        # The merging that ends a stage goes with its last layer.
        blocks, merging = r"^layers\.(\d+)\.blocks\.(\d+)", r"^layers\.(\d+)\.downsample"
        return {"stem": r"^patch_embed", "blocks": [(blocks, None), (merging, (99999,))]}

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}


def _check_options(**given: Any) -> None:
    for name, value in given.items():
        if value != UNUSED[name]:
            raise KeywordError(
                f"{name}={value} is not a published network's", f"Leave it out: only {name}={UNUSED[name]} is built."
            )


def _check_sizes(embed_dim: int, depths: Any, num_heads: Any, window_size: int, img_size: int) -> None:
    if img_size != IMAGE_SIZE:
        raise KeywordError(
            f"img_size={img_size} does not fit, as neighbourhoods are of 10 x 10 out of 14 x 14 patches",
            f"Give images of {IMAGE_SIZE} pixels a side.",
        )
    if window_size != WINDOW:
        raise KeywordError(f"window_size={window_size} does not divide the maps of 224 pixels", f"Give {WINDOW}.")
    for name, values in (("depths", depths), ("num_heads", num_heads)):
        listed = isinstance(values, Sequence) and len(values) == len(GRIDS)
        if not (listed and all(isinstance(each, int) and each >= 1 for each in values)):
            raise KeywordError(f"{name}={values} is not a number for each of 4 stages", "Give four, as in (2,2,18,2).")
    if depths[SEMANTIC_STAGE] % DUMBBELL:
        raise KeywordError(
            f"a third stage of {depths[SEMANTIC_STAGE]} layers is not made of dumbbells", "Give a multiple of 6."
        )
    if embed_dim < 2 or embed_dim % 2:
        raise KeywordError(f"embed_dim={embed_dim} cannot be halved for the stem", "Give an even number.")
    for stage, heads in enumerate(num_heads):
        check_heads(embed_dim * 2**stage, heads)


METHOD = register(
    Method(
        family="STViT-R",
        network=STViTR,
        models={f"stvit_r_swin_{size}": {"embed_dim": dim, "num_heads": heads} for size, (dim, heads) in SIZES.items()},
        published={
            "stvit_r_swin_small": (Published(82.7, 5.83, "STViT-R, README; MACs from its log"),),
            "stvit_r_swin_base": (Published(83.2, None, "STViT-R, README"),),
        },
        evaluation={"first_conv": "patch_embed.proj.0.c"},
        checkpoint_key="layers.2.blocks.1.attn.kv.weight",
        from_vit=lambda _network, _state: {},
        starts_from="a checkpoint of STViT-R",
        training="the cross entropy; the published run took 300 epochs, from scratch",
    )
)
