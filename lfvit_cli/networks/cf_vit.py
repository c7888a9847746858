"""CF-ViT, LF-ViT's parent: a coarse pass, and a fine pass in which the most attended cells are refined."""

from typing import Any, ClassVar

from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import descending
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.stages import Stage
from lfvit_cli.networks.two_grids import Cells, TwoGridViT, from_vit, kept_count
from lfvit_cli.policies import ExitPolicy


class CFViT(TwoGridViT):
    """Coarse-to-Fine Vision Transformer (Chen et al., AAAI 2023, arXiv 2203.03821).

    Args:
        coarse_grid: s; coarse images are 16s, fine images 32s pixels a side (for 16-pixel patches).
        alpha: share of all cells that the fine pass refines.
        shared: keywords of :class:`TwoGridViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    grid_keyword: ClassVar[str] = "coarse_grid"

    def __init__(self, coarse_grid: int = 7, alpha: float = 0.5, **shared: Any) -> None:
        if coarse_grid < 1:
            raise KeywordError(f"coarse_grid={coarse_grid} is not a grid", "Give a grid of at least one cell a side.")
        if not 0 < alpha <= 1:
            raise KeywordError(f"alpha={alpha} is not a share of the cells", "Give an alpha above 0 and at most 1.")
        self.grid, self.kept = coarse_grid, kept_count(coarse_grid**2, alpha)
        super().__init__(**shared)

    def choose(self, class_attention: Tensor) -> Cells:
        """The most attended cells of all (section 3.3)."""
        order = descending(class_attention)
        return Cells(order[:, : self.kept], order[:, self.kept :])

    def stages(self) -> tuple[Stage, ...]:
        """The coarse stage, and the fine stage, which first chooses its cells."""
        return (
            Stage("coarse", lambda images, _: self.coarse(images)),
            Stage("fine", self.fine, prepare=self.choose_cells),
        )


METHOD = register(
    Method(
        family="CF-ViT",
        network=CFViT,
        models=deit_sizes("cf"),
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
