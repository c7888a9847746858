"""Training LF-ViT: the focus pass learns from the labels, the location pass from the focus pass."""

from typing import ClassVar, cast

from torch import Tensor

from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.training.two_grids import TwoGridObjective


class LFViTObjective(TwoGridObjective):
    """CE(focus, y) + KL(focus || location) (Hu et al., AAAI 2024, section 3.5)."""

    parts: ClassVar[tuple[str, str]] = ("location", "focus")

    def passes(self, images: Tensor, select: bool) -> tuple[Output, Output]:
        """See :meth:`TwoGridObjective.passes`."""
        network = cast(LFViT, self.network)
        location = network.location(images)
        return location, network.focus(images, location, select)


OBJECTIVE = LFViTObjective
