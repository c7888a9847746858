"""Which objective trains which network, and what a network answers as a teacher."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from lfvit_cli.networks.dynamic_vit import DynamicViT
from lfvit_cli.networks.evo_vit import EvoViT
from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.staged import SingleStage, StagedNetwork
from lfvit_cli.training.deit import DeiTObjective
from lfvit_cli.training.dynamic_vit import DynamicViTObjective
from lfvit_cli.training.evo_vit import EvoViTObjective
from lfvit_cli.training.lf_vit import LFViTObjective
from lfvit_cli.training.objective import Lesson, Objective, ObjectiveSettings

OBJECTIVES: dict[type[nn.Module], type[Objective]] = {
    LFViT: LFViTObjective,
    DynamicViT: DynamicViTObjective,
    EvoViT: EvoViTObjective,
}


def bare(network: nn.Module) -> nn.Module:
    """The network as its checkpoints have it."""
    return network.model if isinstance(network, SingleStage) else network


def objective_for(network: nn.Module, settings: ObjectiveSettings) -> Objective:
    """The family's objective around a network; cross entropy for any other classifier."""
    network = bare(network)
    return OBJECTIVES.get(type(network), DeiTObjective)(network, settings)


@torch.no_grad()
def stage_logits(network: nn.Module, images: Tensor) -> list[Tensor]:
    """(B, K) logits of every stage, for all of (B, 3, S, S) images."""
    staged = cast(StagedNetwork, network)
    outputs = [staged.begin(images)]
    for _ in staged.stages[1:]:
        outputs.append(staged.resume(images, outputs[-1]))
    return [output.logits for output in outputs]


@torch.no_grad()
def teach(teacher: nn.Module, images: Tensor) -> Lesson:
    """What a network, in evaluation mode, answers for (B, 3, S, S) images; tokens from timm's vision transformers."""
    model: Any = bare(teacher)
    if hasattr(model, "forward_features") and hasattr(model, "num_prefix_tokens"):
        tokens = model.forward_features(images)
        return Lesson(model.forward_head(tokens), tokens[:, model.num_prefix_tokens :])
    return Lesson(stage_logits(teacher, images)[-1], None)
