"""Training EViT: all tokens are kept at first, then fewer and fewer, then as many as at inference."""

import math
from typing import ClassVar, cast

from torch import Tensor

from lfvit_cli.networks.evit import EViT
from lfvit_cli.training.objective import Lesson, Objective

# Published: all tokens for 10 epochs, the final rate from epoch 100 on.
SHARE_AT_FULL_RATE = 10 / 100


class EViTObjective(Objective):
    """Cross entropy, while the keep rate falls from 1 along half a cosine (Liang et al., ICLR 2022, released code).

    The final form begins, in the published training, after 100 of 300 epochs; the rate starts to fall after a tenth of
    the time until then. In its short fine-tuning of a trained DeiT it begins at once: ``final_form_from=0``.
    """

    published_final_form_from: ClassVar[float] = 100 / 300

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the loss has no parts."""
        network = cast(EViT, self.network)
        counts = network.counts_at(self.rates(network.keep_rates, progress))
        return {"loss": self.classify(network.answer_keeping(images, counts).logits, targets, lesson)}

    def rates(self, final: tuple[float, ...], progress: float) -> tuple[float, ...]:
        """The keep rate of every block when some share of the training is done, given those at inference."""
        if progress >= self.final_form_from:
            return final
        start = SHARE_AT_FULL_RATE * self.final_form_from
        fallen = max(0.0, progress - start) / (self.final_form_from - start)
        remaining = (1 + math.cos(math.pi * fallen)) / 2
        return tuple(rate + (1 - rate) * remaining for rate in final)


OBJECTIVE = EViTObjective
