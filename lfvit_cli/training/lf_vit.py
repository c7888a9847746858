"""Training LF-ViT end to end: the focus pass learns from the labels, the location pass from the focus pass."""

from typing import ClassVar, cast

from torch import Tensor

from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.training.losses import divergence
from lfvit_cli.training.objective import Lesson, Objective


class LFViTObjective(Objective):
    """CE(focus, y) + KL(focus || location), 1 : 1 (Hu et al., AAAI 2024, section 3.5).

    Until the final form begins, published after 230 of 300 epochs, the focus pass runs on all fine tokens.
    """

    published_final_form_from: ClassVar[float] = 0.77
    # The focus pass's position embedding has no part in it before the selection starts.
    always_whole: ClassVar[bool] = False

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the parts are ``focus`` and ``location``."""
        network = cast(LFViT, self.network)
        seen = network.location(images)
        answer = network.focus(images, seen, select=progress >= self.final_form_from)
        focus = self.classify(answer.logits, targets, lesson)
        location = divergence(answer.logits, seen.logits)
        return {"loss": focus + location, "focus": focus, "location": location}


OBJECTIVES = {LFViT: LFViTObjective}
