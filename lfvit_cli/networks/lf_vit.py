"""LF-ViT: a low-resolution location pass, and a focus pass on the region its class attention points at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from timm.layers import Mlp, trunc_normal_
from torch import Tensor, nn

from lfvit_cli.networks.errors import KeywordError
from lfvit_cli.networks.layers import (
    EPS,
    Block,
    LayerGroups,
    PatchEmbedding,
    drop_path_rates,
    gather_tokens,
    halve,
    init_weights,
    layer_groups,
)
from lfvit_cli.networks.regions import Region, RegionSelector, fine_tokens_of
from lfvit_cli.networks.staged import EarlyExitOutput, StageOutput, early_exit


@dataclass(frozen=True)
class LocationOutput(StageOutput):
    """The location pass, and all that the focus pass needs of it.

    Attributes:
        logits: (B, K).
        class_attention: (B, s*s) global class attention G, averaged over heads; float32.
        embeddings: (B, s*s, C) the pass's input patch tokens, position included.
        features: (B, s*s, C) its normalised output patch tokens.
        region: where the focus pass is to look; None until it is selected.
    """

    class_attention: Tensor
    embeddings: Tensor
    features: Tensor
    region: Region | None = None


@dataclass(frozen=True)
class FocusOutput(StageOutput):
    """The focus pass, and where it looked.

    Attributes:
        logits: (B, K).
        region: (B,) index of the chosen m x m window, row-major; None where all tokens are fine.
        kept_cells: (B, k) location cells refined into 2 x 2 fine tokens, most attended first.
        coarse_cells: (B, s*s-k) location cells kept as one coarse token.
        grid: s, cells a side of the location grid.
    """

    region: Tensor | None
    kept_cells: Tensor
    coarse_cells: Tensor
    grid: int

    @property
    def fine_tokens(self) -> Tensor:
        """(B, 4k) fine tokens that ran, ascending indices on the 2s x 2s grid; computed when asked for."""
        return fine_tokens_of(self.kept_cells, self.grid).flatten(1).sort(dim=1).values


class LFViT(nn.Module):
    """Localization and Focus Vision Transformer (Hu et al., AAAI 2024, arXiv 2402.00033).

    Args:
        location_grid: s; location images are 16s, focus images 32s pixels a side (for 16-pixel patches).
        patch_size: pixels a side of a patch, in both passes.
        region_size: m, cells a side of the region; published: 5 at s=7, 8 at s=9.
        alpha: share of the region's cells refined into fine tokens.
        beta: decay of the global class attention over layers.
        attention_layers: 0-based layers whose class attention is accumulated.
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

    stages = ("location", "focus")

    def __init__(
        self,
        location_grid: int = 7,
        patch_size: int = 16,
        region_size: int | None = None,
        alpha: float = 0.88,
        beta: float = 0.99,
        attention_layers: Sequence[int] | None = None,
        num_classes: int = 1000,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        region_size = default_region_size(location_grid) if region_size is None else region_size
        self.selector = RegionSelector(location_grid, region_size, alpha)
        self.grid = location_grid
        self.patch_size = patch_size
        self.image_size = 2 * location_grid * patch_size
        self.num_classes = num_classes
        self.num_features = embed_dim
        self.hidden_features = int(embed_dim * mlp_ratio)
        self.patch_embed = PatchEmbedding(self.image_size // 2, patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed_list = nn.ParameterList(
            nn.Parameter(torch.zeros(1, side**2 + 1, embed_dim)) for side in (location_grid, 2 * location_grid)
        )
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks: Any = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)
        self.head = nn.Linear(embed_dim, num_classes)
        self.reuse_block = nn.Sequential(nn.LayerNorm(embed_dim, eps=EPS), Mlp(embed_dim, self.hidden_features))
        self.attention_weights = attention_weights(attention_layers, depth, beta)
        self._init_weights()

    def _init_weights(self) -> None:
        for parameter in (self.cls_token, *self.pos_embed_list):
            trunc_normal_(parameter, std=0.02)
        self.apply(init_weights)

    def location(self, images: Tensor) -> LocationOutput:
        """The low-resolution pass over the whole picture (section 3.2).

        Args:
            images: (B, 3, 32s, 32s) at focus resolution, normalised; reduced here to half the side.
        """
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(f"images are {tuple(images.shape[-2:])}; this network takes {self.image_size} a side")
        position = self.pos_embed_list[0]
        embeddings = self.patch_embed(halve(images)) + position[:, 1:]
        class_token = (self.cls_token + position[:, :1]).expand(len(images), -1, -1)
        tokens = torch.cat((class_token, embeddings), dim=1)
        attention = tokens.new_zeros((len(tokens), self.grid**2), dtype=torch.float32)
        for layer, block in enumerate(self.blocks):
            if layer in self.attention_weights:
                tokens, row = block.with_class_row(tokens)
                attention = attention + self.attention_weights[layer] * row.mean(dim=1)
            else:
                tokens = block(tokens)
        tokens = self.norm(tokens)
        return LocationOutput(self.head(tokens[:, 0]), attention, embeddings, tokens[:, 1:])

    def focus(self, images: Tensor, location: LocationOutput, select: bool = True) -> FocusOutput:
        """The full-resolution pass over the region the location pass attended to (sections 3.3 and 3.4).

        Args:
            images: (B, 3, 32s, 32s) at focus resolution, normalised.
            location: the location pass of the same images.
            select: False runs on all fine tokens and no coarse ones, as training does before selection starts.
        """
        if not select:
            return self._focus_everywhere(images, location)
        region = self.selector(location.class_attention) if location.region is None else location.region
        kept, coarse = region.kept_cells, region.coarse_cells
        position = self.pos_embed_list[1]
        fine = self._embed_fine(images, location, kept) + position[0, 1:][self.selector.fine_tokens(kept)]
        coarse_tokens = gather_tokens(location.embeddings, coarse)
        logits = self._classify(self.cls_token + position[:, :1], fine, coarse_tokens)
        return FocusOutput(logits, region.window, kept, coarse, self.grid)

    def _focus_everywhere(self, images: Tensor, location: LocationOutput) -> FocusOutput:
        """All fine tokens; the released network adds no position here, which its reference figures confirm."""
        kept = torch.arange(self.grid**2, device=images.device).expand(len(images), -1)
        logits = self._classify(self.cls_token, self._embed_fine(images, location, kept))
        return FocusOutput(logits, None, kept, kept[:, :0], self.grid)

    def _embed_fine(self, images: Tensor, location: LocationOutput, kept: Tensor) -> Tensor:
        """(B, 4k, C), position not yet added: only kept patches are cut out and embedded, only kept cells reused."""
        fine = self.selector.fine_tokens(kept)
        side, patch = 2 * self.grid, self.patch_size
        pixels = images.view(len(images), -1, side, patch, side, patch)
        batch = torch.arange(len(images), device=images.device).unsqueeze(1)
        patches = pixels[batch, :, fine // side, :, fine % side].flatten(2)
        reused: Tensor = self.reuse_block(gather_tokens(location.features, kept))
        return self.patch_embed.embed_patches(patches) + reused.repeat_interleave(4, dim=1)

    def _classify(self, class_token: Tensor, *patches: Tensor) -> Tensor:
        tokens = torch.cat((class_token.expand(len(patches[0]), -1, -1), *patches), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits

    def begin(self, images: Tensor) -> LocationOutput:
        """The location stage."""
        return self.location(images)

    def select(self, state: StageOutput) -> LocationOutput:
        """The location stage's output, with the region that the focus stage will look at."""
        location = _located(state)
        return replace(location, region=self.selector(location.class_attention))

    def resume(self, images: Tensor, state: StageOutput) -> FocusOutput:
        """The focus stage, from the location stage's output for the same rows."""
        return self.focus(images, _located(state))

    def forward(self, images: Tensor, threshold: float) -> EarlyExitOutput:
        """The early exit: rows whose location confidence reaches ``threshold`` never enter the focus stage."""
        return early_exit(self, images, threshold)

    def silence_reuse(self) -> None:
        """Let the reused features start at zero.

        At their random start they are as large as a trained backbone's patch embeddings, which they are added to.
        """
        last = cast(Mlp, self.reuse_block[1]).fc2
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        return layer_groups()

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {"cls_token", "pos_embed_list.0", "pos_embed_list.1"}

    def published_macs(self) -> dict[str, int]:
        """MACs of each stage by the authors' arithmetic, counted as fvcore counts (batch 1).

        Theirs embeds all 4s^2 fine patches and reuses all s^2 cells, and has the class attention for nothing,
        as it forms whole attention matrices: the same answer, from other work.
        """
        cells, width = self.grid**2, self.num_features
        patch = self.patch_embed.proj.weight.numel()
        hidden = self.hidden_features
        focus_tokens = 1 + cells + 3 * self.selector.kept
        # One more for each value that nearest upsampling writes.
        reuse = cells * (2 * width * hidden + 5 * width) + 4 * cells * width
        return {
            "location": cells * patch + self._trunk_macs(1 + cells),
            "focus": 4 * cells * patch + reuse + self._trunk_macs(focus_tokens),
        }

    def _trunk_macs(self, tokens: int) -> int:
        """Blocks, final norm and head over ``tokens`` tokens; 5 MACs a value for an affine layer norm."""
        width, hidden = self.num_features, self.hidden_features
        block = tokens * (4 * width**2 + 2 * width * hidden + 2 * tokens * width + 2 * 5 * width)
        return len(self.blocks) * block + tokens * 5 * width + width * self.num_classes


def _located(state: StageOutput) -> LocationOutput:
    if not isinstance(state, LocationOutput):
        raise TypeError(f"the focus stage resumes from a LocationOutput, not {type(state).__name__}")
    return state


def default_region_size(location_grid: int) -> int:
    """The published m: 8 at a 9 x 9 grid, else 5, or the whole of a smaller grid."""
    return 8 if location_grid == 9 else min(5, location_grid)


def attention_weights(layers: Sequence[int] | None, depth: int, beta: float) -> dict[int, float]:
    """Each layer's weight in G: unrolling G <- beta*G + (1-beta)*A gives (1-beta) * beta^(layers still to come).

    Raises:
        KeywordError: no layer, or a layer the network lacks, or beta outside [0, 1).
    """
    chosen = sorted(set(layers)) if layers is not None else list(range(depth // 4, depth))
    if not chosen or not all(0 <= layer < depth for layer in chosen):
        raise KeywordError(
            f"attention_layers={list(layers or ())} does not fit {depth} layers",
            f"Name at least one layer from 0 to {depth - 1}.",
        )
    if not 0 <= beta < 1:
        raise KeywordError(f"beta={beta} is no decay", "Give a beta of at least 0 and below 1.")
    return {layer: (1 - beta) * beta**later for later, layer in enumerate(reversed(chosen))}
