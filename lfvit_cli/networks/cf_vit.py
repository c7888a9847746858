"""CF-ViT, LF-ViT's parent: a coarse pass, and a fine pass in which the most attended cells are refined."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import descending
from lfvit_cli.networks.method import BASE, SMALL, TINY, Method, Published, register
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.traces import Heat
from lfvit_cli.networks.two_grids import (
    CoarsePass,
    TwoGridViT,
    fine_tokens_of,
    from_vit,
    kept_count,
    tokens_of_cells,
)
from lfvit_cli.policies import ExitPolicy


@dataclass(frozen=True, eq=False)
class CoarseOutput(Output):
    """The coarse pass, and all that the fine pass needs of it.

    Attributes:
        logits: (B, K).
        class_attention: (B, s*s) global class attention, averaged over heads; float32.
        embeddings: (B, s*s, C) the pass's input patch tokens, position included.
        features: (B, s*s, C) its normalised output patch tokens.
        order: (B, s*s) cells from the most attended down; None until they are ranked.
    """

    class_attention: Tensor
    embeddings: Tensor
    features: Tensor
    order: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FineOutput(Output):
    """The fine pass, and what it refined.

    Attributes:
        logits: (B, K).
        kept_cells: (B, k) cells refined into 2 x 2 fine tokens, most attended first.
        grid: s, cells a side of the coarse grid.
    """

    kept_cells: Tensor
    grid: int

    @property
    def fine_tokens(self) -> Tensor:
        """(B, 4k) fine tokens that ran, ascending indices on the 2s x 2s grid; computed when asked for."""
        return fine_tokens_of(self.kept_cells, self.grid).flatten(1).sort(dim=1).values


class CFViT(TwoGridViT):
    """Coarse-to-Fine Vision Transformer (Chen et al., AAAI 2023, arXiv 2203.03821).

    Args:
        coarse_grid: s; coarse images are 16s, fine images 32s pixels a side (for 16-pixel patches).
        alpha: share of all cells that the fine pass refines.
        shared: keywords of :class:`TwoGridViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, coarse_grid: int = 7, alpha: float = 0.5, **shared: Any) -> None:
        if coarse_grid < 1:
            raise KeywordError(f"coarse_grid={coarse_grid} is not a grid", "Give a grid of at least one cell a side.")
        if not 0 < alpha <= 1:
            raise KeywordError(f"alpha={alpha} is not a share of the cells", "Give an alpha above 0 and at most 1.")
        super().__init__(grid=coarse_grid, kept=kept_count(coarse_grid**2, alpha), **shared)

    def reduce(self, images: Tensor) -> Tensor:
        """(B, 3, 32s, 32s) to (B, 3, 16s, 16s), bilinear with aligned corners, rounded as the released network does."""
        size = images.shape[-1] // 2
        return F.interpolate(images.float(), size=size, mode="bilinear", align_corners=True).to(images.dtype)

    def coarse(self, images: Tensor) -> CoarseOutput:
        """The coarse pass over (B, 3, 32s, 32s) normalised images (section 3.2)."""
        seen = self.run_coarse(images)
        return CoarseOutput(*seen, traces=(Heat(seen.class_attention.unflatten(1, (self.grid, self.grid))),))

    def fine(self, images: Tensor, coarse: CoarseOutput, select: bool = True) -> FineOutput:
        """The fine pass (section 3.3).

        Args:
            images: (B, 3, 32s, 32s), normalised.
            coarse: the coarse pass of the same images.
            select: False runs on all fine tokens and no coarse ones, as training does before selection starts.
        """
        seen = CoarsePass(coarse.logits, coarse.class_attention, coarse.embeddings, coarse.features)
        if not select:
            cells = self.all_cells(images.shape[0])
            return FineOutput(self.run_fine_everywhere(images, seen), cells, self.grid)
        order = descending(coarse.class_attention) if coarse.order is None else coarse.order
        kept = order[:, : self.kept]
        logits = self.run_fine(images, seen, kept, order[:, self.kept :])
        return FineOutput(logits, kept, self.grid, traces=(tokens_of_cells(kept, self.grid, "fine"),))

    def rank_cells(self, coarse: CoarseOutput) -> CoarseOutput:
        """The coarse pass with its cells ranked, of which the fine pass will refine the first."""
        return replace(coarse, order=descending(coarse.class_attention))

    def stages(self) -> tuple[Stage, ...]:
        """The coarse stage, and the fine stage, which first ranks the cells."""
        return (
            Stage("coarse", lambda images, _: self.coarse(images)),
            Stage("fine", self.fine, prepare=self.rank_cells),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to the (B, K) logits of the fine stage, for every image."""
        return self.fine(images, self.coarse(images)).logits

    def published_macs(self) -> dict[str, int]:
        """MACs of each stage by the authors' arithmetic."""
        return dict(zip(("coarse", "fine"), self.authors_macs(), strict=True))


METHOD = register(
    Method(
        family="CF-ViT",
        network=CFViT,
        models={"cf_deit_tiny": TINY, "cf_deit_small": SMALL, "cf_deit_base": BASE},
        published={
            "cf_deit_small": (
                Published(79.84, 1.88, "CF-ViT, the curve in its released checkpoint"),
                Published(80.8, None, "CF-ViT, README: threshold 1"),
            ),
            "cf_deit_small:coarse_grid=9": (Published(81.9, None, "CF-ViT, README: threshold 1"),),
        },
        # Its authors sweep the threshold and name none: LF-ViT's.
        policy=ExitPolicy.at(0.76),
        checkpoint_key="pos_embed_list.0",
        from_vit=from_vit,
        training="the published losses: the fine pass learns from the labels, the coarse pass from the fine pass",
    )
)
