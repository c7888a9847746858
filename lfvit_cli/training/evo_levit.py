"""Training Evo-LeViT: heads for labels and for a teacher, on patches and class token; selection by layer first."""

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lfvit_cli.errors import TrainingError
from lfvit_cli.networks.evo_levit import EvoLeViT
from lfvit_cli.training.objective import Lesson, Objective, ObjectiveSettings, cross_entropy


class EvoLeViTObjective(Objective):
    """The mean of cross entropies on the mean of the patches and on the class token (Xu et al., AAAI 2022).

    Of each of the two, one head learns the labels and one the class that a teacher thinks best, with equal weight.
    Without a teacher both learn the labels, since both answer. Until the final form begins, published after 200 of
    300 epochs, patches are selected anew before every pruned layer, with attention mixed half and half.
    """

    published_final_form_from: ClassVar[float] = 2 / 3
    has_own_distillation: ClassVar[bool] = True

    def __init__(self, network: nn.Module, settings: ObjectiveSettings) -> None:
        super().__init__(network, settings)
        # Shares of attention are learned in the final form alone, and the first layer's and the last group's never.
        self.always_whole = False

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the parts are ``patches`` and ``class_token``, and with a teacher ``teacher``.

        Raises:
            TrainingError: there is a teacher, and no heads that learn from one.
        """
        network = cast(EvoLeViT, self.network)
        if lesson is not None and not network.distillation:
            raise TrainingError(
                "the network has no heads that learn from a teacher", "Build it with distillation=True."
            )
        token, tokens, _ = network.evolve(images, "stage" if progress >= self.final_form_from else "layer")
        features = tokens.mean(dim=1)
        patches = cross_entropy(network.head(features), targets)
        class_token = cross_entropy(network.head_cls(token), targets)
        parts = {"patches": patches, "class_token": class_token}
        loss = (patches + class_token) / 2
        if network.distillation:
            labels = targets if lesson is None else lesson.logits.argmax(dim=-1)
            answers = (network.head_dist(features), network.head_cls_dist(token))
            taught = torch.stack([cross_entropy(logits, labels) for logits in answers]).mean()
            loss = (loss + taught) / 2
            parts |= {} if lesson is None else {"teacher": taught}
        return {"loss": loss, **parts}


OBJECTIVE = EvoLeViTObjective
