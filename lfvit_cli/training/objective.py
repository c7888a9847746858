"""What every family's training has in common: a network together with the loss it is trained on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from lfvit_cli.training.losses import Distillation, distilled_cross_entropy


class Lesson(NamedTuple):
    """What a teacher answers for a batch.

    Attributes:
        logits: (B, K).
        tokens: (B, N, C) normalised final patch tokens; None where the teacher has none.
    """

    logits: Tensor
    tokens: Tensor | None


@dataclass(frozen=True)
class ObjectiveSettings:
    """What can be chosen about a loss.

    Attributes:
        distillation: how a teacher's logits are learned from; DynamicViT has its own way.
        temperature: of the soft distillation.
        alpha: the teacher's share of the distilled cross entropy.
        final_form_from: share of the training after which the network runs as at inference; None for the family's own.
    """

    distillation: Distillation = "none"
    temperature: float = 3.0
    alpha: float = 0.5
    final_form_from: float | None = None


class Objective(nn.Module, ABC):
    """A network and its loss: one module, so that several processes see every parameter in one forward call.

    Attributes:
        final_form_from: share of the training after which the network runs as at inference.
        always_whole: whether every parameter has a gradient in every step.
        has_own_distillation: whether it learns from a teacher in its own way, whatever the settings say.
    """

    published_final_form_from: ClassVar[float] = 0.0
    always_whole: ClassVar[bool] = True
    has_own_distillation: ClassVar[bool] = False

    def __init__(self, network: nn.Module, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        chosen = settings.final_form_from
        self.final_form_from = self.published_final_form_from if chosen is None else chosen

    @abstractmethod
    def forward(
        self, images: Tensor, targets: Tensor, lesson: Lesson | None, progress: float, seeds: Tensor
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            images: (B, 3, S, S), normalised.
            targets: (B,) class indexes, or (B, K) probabilities.
            lesson: the teacher's answer for the same images, if there is a teacher.
            progress: share of the training that is done, 0 to 1.
            seeds: (B,) for what is drawn for each image, which so does not depend on its batch or its process.

        Returns:
            ``loss``, and under other names the parts it is the weighted sum of; scalars.
        """

    def classify(self, logits: Tensor, targets: Tensor, lesson: Lesson | None) -> Tensor:
        """Cross entropy, with the teacher's logits mixed in as the settings say."""
        taught = None if lesson is None else lesson.logits
        chosen = self.settings
        return distilled_cross_entropy(logits, targets, taught, chosen.distillation, chosen.temperature, chosen.alpha)
