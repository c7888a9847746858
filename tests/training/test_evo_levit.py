"""Tests of training/evo_levit.py."""

from typing import Any

import pytest
import timm
import torch
from networks.cases import images
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import TrainingError
from lfvit_cli.training.evo_levit import EvoLeViTObjective
from lfvit_cli.training.objective import Lesson, ObjectiveSettings
from lfvit_cli.training.objectives import built_in_objective

BATCH, LABELS, SEEDS = images(4, 112), torch.tensor([1, 3, 0, 2]), torch.arange(4)
TEACHER = torch.tensor([[0.0, 0, 0, 0, 9], [9, 0, 0, 0, 0], [0, 9, 0, 0, 0], [0, 0, 9, 0, 0]])


def small(**keywords: Any) -> Any:
    """A narrow network for images of 112 pixels a side."""
    torch.manual_seed(0)
    sizes = {"C": "16_24_32", "D": 4, "N": "2_3_4", "X": "3_3_2", "num_classes": 5, "img_size": 112}
    # In evaluation mode, so that a forward pass leaves the batch norms alone.
    return timm.create_model("evo_levit_128s", **sizes, **keywords).eval()


def losses(network: Any, lesson: Lesson | None, progress: float) -> dict[str, Tensor]:
    """The objective's parts."""
    found: dict[str, Tensor] = EvoLeViTObjective(network, ObjectiveSettings())(BATCH, LABELS, lesson, progress, SEEDS)
    return found


@pytest.mark.parametrize(("progress", "selection"), [(0.66, "layer"), (0.67, "stage")])
@pytest.mark.parametrize("taught", [True, False])
def test_loss_is_worked_out_by_hand(progress: float, selection: Any, taught: bool) -> None:
    """Half on the labels and half on the teacher's classes, each the mean of both heads; labels for all without one."""
    network = small()
    found = losses(network, Lesson(TEACHER, None) if taught else None, progress)
    token, tokens, _ = network.evolve(BATCH, selection)
    features = tokens.mean(1)
    goal = torch.tensor([4, 0, 1, 2]) if taught else LABELS
    one = F.cross_entropy(network.head(features), LABELS) + F.cross_entropy(network.head_cls(token), LABELS)
    two = F.cross_entropy(network.head_dist(features), goal) + F.cross_entropy(network.head_cls_dist(token), goal)
    assert found["loss"].item() == pytest.approx((0.5 * one / 2 + 0.5 * two / 2).item(), rel=1e-5)
    assert ("teacher" in found) == taught


def test_without_heads_for_a_teacher() -> None:
    """The labels alone; and a teacher is refused rather than ignored."""
    network = small(distillation=False)
    found = losses(network, None, 0.0)
    assert found["loss"].item() == pytest.approx(((found["patches"] + found["class_token"]) / 2).item(), rel=1e-6)
    with pytest.raises(TrainingError, match="distillation=True"):
        losses(network, Lesson(TEACHER, None), 0.0)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_all_but_shares_of_attention_learn(progress: float) -> None:
    """Every parameter has a gradient in both modes, but for shares that have no part in what is chosen."""
    network = small()
    losses(network, None, progress)["loss"].backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert all(name.endswith("learn_tradeoff") for name in without)
    assert without


def test_it_is_found() -> None:
    """By the name of the network's file."""
    assert built_in_objective(type(small())) is EvoLeViTObjective
