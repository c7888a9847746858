"""Which objective trains which network, the default one, and what a network answers as a teacher."""

from collections.abc import Callable
from importlib import import_module, util
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.networks.method import Method, methods
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.training.objective import Lesson, Objective, ObjectiveSettings

# networks/NAME.py has its objective, if it has one, in training/NAME.py; a frame's is that of the methods built on it.
NETWORKS, TRAINING = "lfvit_cli.networks", "lfvit_cli.training"


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
        outputs = walk(stages_of(self.network), images).outputs
        losses = torch.stack([self.classify(output.logits, targets, lesson) for output in outputs])
        parts = dict(zip(stage_names(self.network), losses, strict=True)) if len(losses) > 1 else {}
        return {"loss": self.combine(losses), **parts}

    def combine(self, losses: Tensor) -> Tensor:
        """(stages,) losses to the one that is trained on."""
        return losses.mean()


def objective_for(network: nn.Module, settings: ObjectiveSettings, method: Method | None = None) -> nn.Module:
    """A network together with its loss.

    Args:
        network: what is trained.
        settings: what can be chosen about the loss.
        method: that the network belongs to; None for any other network of timm's.

    Returns:
        The method's own objective, else that of the file of the same name here, else the mean over the stages.
    """
    brought = None if method is None else method.objective
    make = brought or built_in_objective(type(network)) or StagesObjective
    return make(network, settings)


def built_in_objective(network: type[nn.Module]) -> Callable[..., nn.Module] | None:
    """The ``OBJECTIVE`` of the file here that is called as a network's own in ``networks/``, or as its frame's."""
    others = {method.network.__module__ for method in methods() if method.network} - {network.__module__}
    for module in dict.fromkeys(each.__module__ for each in network.__mro__):
        package, _, name = module.rpartition(".")
        if package == NETWORKS and module not in others and util.find_spec(f"{TRAINING}.{name}") is not None:
            made: Callable[..., nn.Module] = import_module(f"{TRAINING}.{name}").OBJECTIVE
            return made
    return None


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
