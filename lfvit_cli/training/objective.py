"""What every method's training has in common: a network together with the loss it is trained on, and its parts."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

Distillation = Literal["none", "soft", "hard"]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy.

    Args:
        logits: (B, K).
        targets: (B,) class indexes, or (B, K) probabilities from mixup or label smoothing.
    """
    return F.cross_entropy(logits.float(), targets)


def divergence(target_logits: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(target_logits) || softmax(logits)), mean over the batch.

    Args:
        target_logits: (B, K); no gradient flows into them.
        logits: (B, K).
        temperature: divides both; the result is scaled by its square, which keeps the size of the gradient
            (Hinton et al., 2015, section 2).
    """
    targets = (target_logits.detach().float() / temperature).log_softmax(dim=-1)
    answers = (logits.float() / temperature).log_softmax(dim=-1)
    return F.kl_div(answers, targets, reduction="batchmean", log_target=True) * temperature**2


def distilled_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    teacher_logits: Tensor | None,
    distillation: Distillation = "none",
    temperature: float = 3.0,
    alpha: float = 0.5,
) -> Tensor:
    """Cross entropy, mixed with what a teacher answers: DeiT's equations 2 and 3, on the one head.

    Args:
        logits: (B, K) of the student.
        targets: as for :func:`cross_entropy`.
        teacher_logits: (B, K); None where there is no teacher.
        distillation: ``soft`` compares probabilities at a temperature, ``hard`` takes the teacher's first class as a
            second label.
        temperature: of the soft distillation.
        alpha: the teacher's share.
    """
    own = cross_entropy(logits, targets)
    if distillation == "none" or teacher_logits is None:
        return own
    if distillation == "soft":
        taught = divergence(teacher_logits, logits, temperature)
    else:
        taught = cross_entropy(logits, teacher_logits.argmax(dim=-1))
    return (1 - alpha) * own + alpha * taught


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
        distillation: how a teacher's logits are learned from, unless the method has its own way.
        temperature: of the soft distillation.
        alpha: the teacher's share of the distilled cross entropy.
        final_form_from: share of the training after which the network runs as at inference; None for the method's own.
    """

    distillation: Distillation = "none"
    temperature: float = 3.0
    alpha: float = 0.5
    final_form_from: float | None = None


class Objective(nn.Module, ABC):
    """A network and its loss: one module, so that several processes see every parameter in one forward call.

    Attributes:
        published_final_form_from: what ``final_form_from`` is where the settings leave it open.
        has_own_distillation: whether it learns from a teacher in its own way, whatever the settings say.
        final_form_from: share of the training after which the network runs as at inference.
        always_whole: whether every parameter has a gradient in every step.
    """

    published_final_form_from: ClassVar[float] = 0.0
    has_own_distillation: ClassVar[bool] = False

    def __init__(self, network: nn.Module, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        chosen = settings.final_form_from
        self.final_form_from = self.published_final_form_from if chosen is None else chosen
        self.always_whole = True

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
            ``loss``, and under other names the parts it consists of; scalars.
        """

    def classify(self, logits: Tensor, targets: Tensor, lesson: Lesson | None) -> Tensor:
        """Cross entropy, with the teacher's logits mixed in as the settings say."""
        taught = None if lesson is None else lesson.logits
        chosen = self.settings
        return distilled_cross_entropy(logits, targets, taught, chosen.distillation, chosen.temperature, chosen.alpha)
