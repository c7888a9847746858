"""Which objective trains which network, and what a network answers as a teacher."""

from importlib import import_module, util
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.networks.method import methods
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.training.objective import Lesson, Objective, ObjectiveSettings

# The objective of the network file of the same name lies here.
PACKAGE = "lfvit_cli.training"


class StagesObjective(Objective):
    """The mean over all stages of the cross entropy, so that every exit learns; with a teacher if there is one.

    For a network of one stage this is DeiT's (Touvron et al., ICML 2021, section 4, without a distillation token).
    """

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,  # noqa: ARG002
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; where there are several stages, each is a part."""
        stages = stages_of(self.network)
        outputs = walk(stages, images).outputs
        losses = [self.classify(output.logits, targets, lesson) for output in outputs]
        parts = {stage.name: loss for stage, loss in zip(stages, losses, strict=True)} if len(stages) > 1 else {}
        return {"loss": torch.stack(losses).mean(), **parts}


def objective_for(network: nn.Module, settings: ObjectiveSettings) -> nn.Module:
    """The objective of a network's method around it; the mean over its stages where the method brings none."""
    return _objective_class(type(network))(network, settings)


def has_own_objective(network: type[nn.Module]) -> bool:
    """Whether a class of networks is trained with a loss of its own."""
    return _objective_class(network) is not StagesObjective


def _objective_class(network: type[nn.Module]) -> Any:
    brought = (method.objective for method in methods() if method.network is network and method.objective)
    module = f"{PACKAGE}.{network.__module__.rpartition('.')[2]}"
    if network.__module__.startswith("lfvit_cli.networks.") and util.find_spec(module) is not None:
        return import_module(module).OBJECTIVES.get(network, StagesObjective)
    return next(brought, StagesObjective)


@torch.no_grad()
def stage_logits(network: nn.Module, images: Tensor) -> list[Tensor]:
    """(B, K) logits of every stage, for all of (B, 3, S, S) images."""
    return [output.logits for output in walk(stages_of(network), images).outputs]


@torch.no_grad()
def teach(teacher: nn.Module, images: Tensor) -> Lesson:
    """What a network, in evaluation mode, answers for (B, 3, S, S) images; tokens from timm's vision transformers."""
    model: Any = teacher
    if hasattr(model, "forward_features") and hasattr(model, "num_prefix_tokens"):
        tokens = model.forward_features(images)
        return Lesson(model.forward_head(tokens), tokens[:, model.num_prefix_tokens :])
    return Lesson(stage_logits(teacher, images)[-1], None)
