"""Training CF-ViT and LF-ViT end to end: the fine pass learns from the labels, the coarse pass from the fine pass."""

from typing import ClassVar, cast

from torch import Tensor, nn

from lfvit_cli.networks.stages import stage_names
from lfvit_cli.networks.two_grids import TwoGridViT
from lfvit_cli.training.objective import Lesson, Objective, ObjectiveSettings, divergence


class TwoGridObjective(Objective):
    """CE(fine, y) + KL(fine || coarse), 1 : 1 (Hu et al., AAAI 2024, section 3.5; Chen et al., AAAI 2023).

    Until the final form begins, published after 230 of 300 epochs, the fine pass runs on all fine tokens.
    """

    published_final_form_from: ClassVar[float] = 230 / 300

    def __init__(self, network: nn.Module, settings: ObjectiveSettings) -> None:
        super().__init__(network, settings)
        # The fine pass's position embedding has no part in it before the selection starts.
        self.always_whole = self.final_form_from <= 0

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the parts have the names of the stages."""
        network = cast(TwoGridViT, self.network)
        coarse = network.coarse(images)
        fine = network.fine(images, coarse, select=progress >= self.final_form_from)
        learned = self.classify(fine.logits, targets, lesson)
        followed = divergence(fine.logits, coarse.logits)
        return {"loss": learned + followed, **dict(zip(stage_names(network), (followed, learned), strict=True))}


OBJECTIVE = TwoGridObjective
