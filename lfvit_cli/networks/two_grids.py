"""The frame of CF-ViT and LF-ViT: a coarse pass over the whole picture, and a fine pass over part of it."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from timm.layers import Mlp, trunc_normal_
from torch import Tensor, nn

from lfvit_cli.errors import CheckpointError, KeywordError
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
from lfvit_cli.networks.method import State
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.traces import Heat, Tokens
from lfvit_cli.networks.trees import Tree

KINDS = ("weight", "bias")


@dataclass(frozen=True, eq=False)
class Cells(Tree):
    """The cells of the coarse grid, split for the fine pass.

    Attributes:
        kept_cells: (B, k) cells refined into 2 x 2 fine tokens, most attended first.
        coarse_cells: (B, s*s-k) the others, which stay one coarse token each.
    """

    kept_cells: Tensor
    coarse_cells: Tensor


@dataclass(frozen=True, eq=False)
class CoarseOutput(Output):
    """The coarse pass, and all that the fine pass needs of it.

    Attributes:
        logits: (B, K).
        class_attention: (B, s*s) global class attention G, averaged over heads; float32.
        embeddings: (B, s*s, C) the pass's input patch tokens, position included.
        features: (B, s*s, C) its normalised output patch tokens.
        cells: what the fine pass is to refine; None until it is chosen.
    """

    class_attention: Tensor
    embeddings: Tensor
    features: Tensor
    cells: Cells | None = None


@dataclass(frozen=True, eq=False)
class FineOutput(Output):
    """The fine pass, and what it refined.

    Attributes:
        logits: (B, K).
        kept_cells: (B, k) cells refined into 2 x 2 fine tokens, most attended first.
        coarse_cells: (B, s*s-k) cells kept as one coarse token.
        grid: s, cells a side of the coarse grid.
    """

    kept_cells: Tensor
    coarse_cells: Tensor
    grid: int

    @property
    def fine_tokens(self) -> Tensor:
        """(B, 4k) fine tokens that ran, ascending indices on the 2s x 2s grid; computed when asked for."""
        return fine_tokens_of(self.kept_cells, self.grid).flatten(1).sort(dim=1).values


def kept_count(cells: int, alpha: float) -> int:
    """ceil(alpha * cells), not fooled by a product such as 0.07 * 100 = 7.000000000000001."""
    return max(1, math.ceil(round(alpha * cells, 9)))


def fine_tokens_of(cells: Tensor, grid: int) -> Tensor:
    """The 2 x 2 fine tokens under each cell: indices (...) on an s x s grid to (..., 4) on the 2s x 2s grid."""
    corner = 4 * grid * (cells // grid) + 2 * (cells % grid)
    offsets = torch.tensor((0, 1, 2 * grid, 2 * grid + 1), device=cells.device)
    return corner.unsqueeze(-1) + offsets


def tokens_of_cells(kept_cells: Tensor, grid: int) -> Tokens:
    """Which token each fine patch belongs to: itself under a kept (B, k) cell, else the coarse cell it lies in."""
    shared = torch.arange(4 * grid**2, device=kept_cells.device).view(2 * grid, 2 * grid)
    shared = shared[::2, ::2].repeat_interleave(2, dim=0).repeat_interleave(2, dim=1).flatten()
    kept = fine_tokens_of(kept_cells, grid).flatten(1)
    owner = shared.expand(kept.shape[0], -1).scatter(1, kept, kept)
    return Tokens(owner.unflatten(1, (2 * grid, 2 * grid)), "fine")


class TwoGridViT(nn.Module):
    """One vision transformer for two grids: s x s cells at half the resolution, and 2s x 2s patches at the full one.

    Attributes:
        grid: s; coarse images are 16s, fine images 32s pixels a side (for 16-pixel patches).
        kept: k, cells that the fine pass refines. A subclass sets both before it calls ``__init__`` here.
        grid_keyword: what a subclass calls s among its keywords.

    Args:
        patch_size: pixels a side of a patch, in both passes.
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

    grid_keyword: ClassVar[str]
    grid: int
    kept: int
    fine_of_cell: Tensor

    def __init__(
        self,
        patch_size: int = 16,
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
        grid, self.patch_size = self.grid, patch_size
        self.image_size = 2 * grid * patch_size
        self.num_classes, self.num_features = num_classes, embed_dim
        self.hidden_features = int(embed_dim * mlp_ratio)
        self.patch_embed = PatchEmbedding(self.image_size // 2, patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed_list = nn.ParameterList(
            nn.Parameter(torch.zeros(1, side**2 + 1, embed_dim)) for side in (grid, 2 * grid)
        )
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks: Any = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)
        self.head = nn.Linear(embed_dim, num_classes)
        self.reuse_block = nn.Sequential(nn.LayerNorm(embed_dim, eps=EPS), Mlp(embed_dim, self.hidden_features))
        self.attention_weights = attention_weights(attention_layers, depth, beta)
        cells = torch.arange(grid**2, device="cpu")
        self.register_buffer("fine_of_cell", fine_tokens_of(cells, grid), persistent=False)
        for parameter in (self.cls_token, *self.pos_embed_list):
            trunc_normal_(parameter, std=0.02)
        self.apply(init_weights)

    @abstractmethod
    def choose(self, class_attention: Tensor) -> Cells:
        """(B, s*s) class attention to the cells that the fine pass refines, and the others."""

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The coarse stage, and the fine stage, which first chooses its cells."""

    def choose_cells(self, coarse: CoarseOutput) -> CoarseOutput:
        """The coarse pass with the cells that the fine pass will refine."""
        return replace(coarse, cells=self.choose(coarse.class_attention))

    def coarse(self, images: Tensor) -> CoarseOutput:
        """The coarse pass over (B, 3, 32s, 32s) normalised images, reduced here to half the side."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(f"images are {tuple(images.shape[-2:])}; this network takes {self.image_size} a side")
        position = self.pos_embed_list[0]
        embeddings = self.patch_embed(halve(images)) + position[:, 1:]
        class_token = (self.cls_token + position[:, :1]).expand(images.shape[0], -1, -1)
        tokens = torch.cat((class_token, embeddings), dim=1)
        attention = tokens.new_zeros((tokens.shape[0], self.grid**2), dtype=torch.float32)
        for layer, block in enumerate(self.blocks):
            if layer in self.attention_weights:
                tokens, row = block.with_class_row(tokens)
                attention = attention + self.attention_weights[layer] * row.mean(dim=1)
            else:
                tokens = block(tokens)
        tokens = self.norm(tokens)
        heat = Heat(attention.unflatten(1, (self.grid, self.grid)))
        return CoarseOutput(self.head(tokens[:, 0]), attention, embeddings, tokens[:, 1:], traces=(heat,))

    def fine(self, images: Tensor, coarse: CoarseOutput, select: bool = True) -> FineOutput:
        """The fine pass.

        Args:
            images: (B, 3, 32s, 32s), normalised.
            coarse: the coarse pass of the same images.
            select: False runs on all fine tokens and no coarse ones, as training does before selection starts.
        """
        if not select:
            return self._fine_everywhere(images, coarse)
        cells = self.choose(coarse.class_attention) if coarse.cells is None else coarse.cells
        kept, others = cells.kept_cells, cells.coarse_cells
        position = self.pos_embed_list[1]
        fine = self._embed_fine(images, coarse, kept) + position[0, 1:][self.fine_of_cell[kept].flatten(1)]
        coarse_tokens = gather_tokens(coarse.embeddings, others)
        logits = self._classify(self.cls_token + position[:, :1], fine, coarse_tokens)
        return FineOutput(logits, kept, others, self.grid, traces=(tokens_of_cells(kept, self.grid),))

    def _fine_everywhere(self, images: Tensor, coarse: CoarseOutput) -> FineOutput:
        """All fine tokens; the released networks add no position here, which their reference figures confirm."""
        cells = torch.arange(self.grid**2, device=images.device).expand(images.shape[0], -1)
        logits = self._classify(self.cls_token, self._embed_fine(images, coarse, cells))
        return FineOutput(logits, cells, cells[:, :0], self.grid)

    def _embed_fine(self, images: Tensor, coarse: CoarseOutput, kept: Tensor) -> Tensor:
        """(B, 4k, C), position not yet added: only kept patches are cut out and embedded, only kept cells reused."""
        fine = self.fine_of_cell[kept].flatten(1)
        side, patch = 2 * self.grid, self.patch_size
        pixels = images.view(images.shape[0], -1, side, patch, side, patch)
        batch = torch.arange(images.shape[0], device=images.device).unsqueeze(1)
        patches = pixels[batch, :, fine // side, :, fine % side].flatten(2)
        reused: Tensor = self.reuse_block(gather_tokens(coarse.features, kept))
        return self.patch_embed.embed_patches(patches) + reused.repeat_interleave(4, dim=1)

    def _classify(self, class_token: Tensor, *patches: Tensor) -> Tensor:
        tokens = torch.cat((class_token.expand(patches[0].shape[0], -1, -1), *patches), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to the (B, K) logits of the fine stage, for every image."""
        coarse, fine = self.stages()
        return fine(images, coarse(images, None)).logits

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        return layer_groups()

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {"cls_token", "pos_embed_list.0", "pos_embed_list.1"}

    def adapt_checkpoint(self, state: State) -> State:
        """The state as it is, where it was trained on the same grids.

        Raises:
            CheckpointError: it was trained on others; names them.
        """
        positions = state.get("pos_embed_list.0")
        side = self.grid if positions is None else round((positions.shape[1] - 1) ** 0.5)
        if side != self.grid:
            raise CheckpointError(
                f"the checkpoint was trained with {self.grid_keyword}={side}, and the model has {self.grid}",
                f"Add {self.grid_keyword}={side} to the model's keywords.",
            )
        return state

    def published_macs(self) -> dict[str, int]:
        """MACs of each stage by the authors' arithmetic, counted as fvcore counts (batch 1).

        Theirs embeds all 4s^2 fine patches and reuses all s^2 cells, and has the class attention for nothing, as it
        forms whole attention matrices: the same answer, from other work. The reduction is left out.
        """
        cells, width = self.grid**2, self.num_features
        patch = self.patch_embed.proj.weight.numel()
        # One more for each value that nearest upsampling writes.
        reuse = cells * (2 * width * self.hidden_features + 5 * width) + 4 * cells * width
        fine_tokens = 1 + cells + 3 * self.kept
        coarse, fine = self.stages()
        return {
            coarse.name: cells * patch + self._trunk_macs(1 + cells),
            fine.name: 4 * cells * patch + reuse + self._trunk_macs(fine_tokens),
        }

    def _trunk_macs(self, tokens: int) -> int:
        """Blocks, final norm and head over ``tokens`` tokens; 5 MACs a value for an affine layer norm."""
        width, hidden = self.num_features, self.hidden_features
        block = tokens * (4 * width**2 + 2 * width * hidden + 2 * tokens * width + 2 * 5 * width)
        return len(self.blocks) * block + tokens * 5 * width + width * self.num_classes


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
        raise KeywordError(f"beta={beta} is not a decay", "Give a beta of at least 0 and below 1.")
    return {layer: (1 - beta) * beta**later for later, layer in enumerate(reversed(chosen))}


def from_vit(network: nn.Module, state: State) -> State:
    """A plain ViT's parameters: one embedding of positions serves both grids; the reused features start at zero.

    At their random start they would be as large as a trained backbone's patch embeddings, which they are added to.
    """
    own = network.state_dict()
    reuse = {f"reuse_block.1.fc2.{kind}": torch.zeros_like(own[f"reuse_block.1.fc2.{kind}"]) for kind in KINDS}
    positions = {f"pos_embed_list.{grid}": state["pos_embed"] for grid in (0, 1) if "pos_embed" in state}
    return {**{name: value for name, value in state.items() if name != "pos_embed"}, **positions, **reuse}
