"""Training Evo-ViT: two heads, and a selection before every layer first, stage by stage later."""

from typing import ClassVar, cast

from torch import Tensor

from lfvit_cli.networks.evo_vit import EvoViT, selection_layers
from lfvit_cli.training.objective import Lesson, Objective


class EvoViTObjective(Objective):
    """The mean of two cross entropies: on the mean of the patch tokens, and on the class token (Xu et al., AAAI 2022).

    Until the final form begins, published after 200 of 300 epochs, patches are selected anew before every layer from
    the first selection on.
    """

    published_final_form_from: ClassVar[float] = 2 / 3

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the parts are ``patches`` and ``class_token``."""
        network = cast(EvoViT, self.network)
        final = progress >= self.final_form_from
        layers = network.selection_layers if final else selection_layers("layer", len(network.blocks))
        token, tokens, _ = network.evolve(images, layers)
        patches = self.classify(network.head(network.norm(tokens.mean(dim=1))), targets, lesson)
        class_token = self.classify(network.head_cls(network.norm_cls(token[:, 0])), targets, lesson)
        return {"loss": (patches + class_token) / 2, "patches": patches, "class_token": class_token}


OBJECTIVE = EvoViTObjective
