"""DynamicViT: DeiT with a small predictor before three layers that drops the least useful patch tokens."""

from collections.abc import Sequence

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from lfvit_cli.networks.errors import KeywordError
from lfvit_cli.networks.layers import (
    EPS,
    Block,
    LayerGroups,
    PatchEmbedding,
    drop_path_rates,
    gather_tokens,
    init_weights,
    layer_groups,
)
from lfvit_cli.networks.staged import PrunedOutput, StageOutput


class ScorePredictor(nn.Module):
    """Scores each patch token from its own features and the mean of all those still kept (section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """(B, N, C) kept patch tokens to (B, N, 2) log-probabilities of keeping and of dropping."""
        local, shared = self.in_conv(patches).chunk(2, dim=-1)
        shared = shared.mean(dim=1, keepdim=True).expand_as(local)
        scores: Tensor = self.out_conv(torch.cat((local, shared), dim=-1))
        return scores


class DynamicViT(nn.Module):
    """Dynamic token sparsification (Rao et al., NeurIPS 2021, arXiv 2106.02034), as it answers at inference.

    Args:
        keep_ratio: rho; the k-th pruning leaves rho^k of all patches.
        token_ratio: the share left by each pruning, instead of powers of ``keep_ratio``.
        pruning_layers: 0-based layers before which tokens are dropped; by default after each quarter of the depth
            but the last (3, 6, 9 of 12).
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

    def __init__(
        self,
        keep_ratio: float = 0.7,
        token_ratio: Sequence[float] | None = None,
        pruning_layers: Sequence[int] | None = None,
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
        if embed_dim % 2:
            raise KeywordError(f"embed_dim={embed_dim} cannot be halved by the score predictors", "Give an even width.")
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_chans, embed_dim)
        self.image_size = img_size
        self.num_classes = num_classes
        self.num_features = embed_dim
        patches = self.patch_embed.num_patches
        self.pruning_layers = _layers(pruning_layers, depth)
        self.kept_counts = kept_counts(patches, token_ratio or _powers(keep_ratio, len(self.pruning_layers)))
        if len(self.kept_counts) != len(self.pruning_layers):
            raise KeywordError(
                f"{len(self.kept_counts)} token ratios were given for {len(self.pruning_layers)} pruning layers",
                "Give one ratio for every pruning layer.",
            )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, embed_dim))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)
        self.head = nn.Linear(embed_dim, num_classes)
        self.score_predictor = nn.ModuleList(ScorePredictor(embed_dim) for _ in self.pruning_layers)
        for parameter in (self.cls_token, self.pos_embed):
            trunc_normal_(parameter, std=0.02)
        self.apply(init_weights)

    def begin(self, images: Tensor) -> PrunedOutput:
        """(B, 3, S, S) normalised images to logits, and the patches kept after each pruning."""
        tokens = self.patch_embed(images)
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1) + self.pos_embed
        # Indices of the patches that the tokens stand for, in the tokens' order.
        patches = torch.arange(tokens.shape[1] - 1, device=images.device).expand(len(tokens), -1)
        kept = []
        for layer, block in enumerate(self.blocks):
            if layer in self.pruning_layers:
                pruning = self.pruning_layers.index(layer)
                chosen = self._choose(pruning, tokens)
                patches = patches.gather(1, chosen)
                tokens = torch.cat((tokens[:, :1], gather_tokens(tokens, chosen + 1)), dim=1)
                kept.append(patches)
            tokens = block(tokens)
        logits = self.head(self.norm(tokens[:, 0]))
        return PrunedOutput(logits, tuple(kept))

    def _choose(self, pruning: int, tokens: Tensor) -> Tensor:
        """(B, n) positions, ascending, of the patch tokens most worth keeping."""
        scores = self.score_predictor[pruning](tokens[:, 1:])[..., 0]
        ranked: Tensor = scores.sort(dim=1, descending=True, stable=True).indices
        return ranked[:, : self.kept_counts[pruning]].sort(dim=1).values

    def resume(self, images: Tensor, state: StageOutput) -> StageOutput:
        """Nothing follows the only stage."""
        raise NotImplementedError("DynamicViT has a single stage")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, K) logits."""
        return self.begin(images).logits

    def group_matcher(self, coarse: bool = False) -> LayerGroups:  # noqa: ARG002  # timm's signature
        """Which parameters belong to which layer, for timm's layer decay."""
        return layer_groups()

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed."""
        return {"cls_token", "pos_embed"}


def kept_counts(patches: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Whole patches left by each pruning: int(N * ratio), not fooled by 0.7^2 * 100 = 48.99999999999999.

    Raises:
        KeywordError: a ratio that keeps nothing, or more than the pruning before it.
    """
    counts = tuple(int(round(patches * ratio, 9)) for ratio in ratios)
    if not all(1 <= after <= before for before, after in zip((patches, *counts), counts, strict=False)):
        raise KeywordError(
            f"token ratios {', '.join(f'{ratio:g}' for ratio in ratios)} keep {counts} of {patches} patches",
            "Give ratios above 0 and at most 1, none larger than the one before.",
        )
    return counts


def _powers(keep_ratio: float, prunings: int) -> tuple[float, ...]:
    return tuple(keep_ratio**power for power in range(1, prunings + 1))


def _layers(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    quarters = sorted({depth // 4, depth // 2, 3 * depth // 4})
    chosen = tuple(quarters if layers is None else layers)
    if list(chosen) != sorted(set(chosen)) or not all(0 <= layer < depth for layer in chosen):
        raise KeywordError(
            f"pruning_layers={chosen} does not fit {depth} layers",
            f"Give ascending layers from 0 to {depth - 1}.",
        )
    return chosen
