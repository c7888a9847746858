"""Training CF-ViT and LF-ViT end to end: the fine pass learns from the labels, the coarse pass from the fine pass."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from lfvit_cli.networks.stages import Output
from lfvit_cli.training.objective import Lesson, Objective, ObjectiveSettings, divergence


class TwoGridObjective(Objective):
    """CE(fine, y) + KL(fine || coarse), 1 : 1 (LF-ViT, section 3.5, after CF-ViT).

    Until the final form begins, published after 230 of 300 epochs, the fine pass runs on all fine tokens.

    Attributes:
        parts: names of the two losses, that of the coarse pass first.
    """

    published_final_form_from: ClassVar[float] = 230 / 300
    parts: ClassVar[tuple[str, str]]

    def __init__(self, network: nn.Module, settings: ObjectiveSettings) -> None:
        super().__init__(network, settings)
        # The fine pass's position embedding has no part in it before the selection starts.
        self.always_whole = self.final_form_from <= 0

    @abstractmethod
    def passes(self, images: Tensor, select: bool) -> tuple[Output, Output]:
        """The coarse and the fine pass over (B, 3, S, S) images; the latter on all fine tokens unless it selects."""

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the parts have the names of the stages."""
        coarse, fine = self.passes(images, select=progress >= self.final_form_from)
        learned = self.classify(fine.logits, targets, lesson)
        followed = divergence(fine.logits, coarse.logits)
        return {"loss": learned + followed, **dict(zip(self.parts, (followed, learned), strict=True))}
