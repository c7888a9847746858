"""Training CF-ViT: the fine pass learns from the labels, the coarse pass from the fine pass."""

from typing import ClassVar, cast

from torch import Tensor

from lfvit_cli.networks.cf_vit import CFViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.training.two_grids import TwoGridObjective


class CFViTObjective(TwoGridObjective):
    """CE(fine, y) + KL(fine || coarse) (Chen et al., AAAI 2023)."""

    parts: ClassVar[tuple[str, str]] = ("coarse", "fine")

    def passes(self, images: Tensor, select: bool) -> tuple[Output, Output]:
        """See :meth:`TwoGridObjective.passes`."""
        network = cast(CFViT, self.network)
        coarse = network.coarse(images)
        return coarse, network.fine(images, coarse, select)


OBJECTIVE = CFViTObjective
