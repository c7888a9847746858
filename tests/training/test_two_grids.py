"""Tests of training/two_grids.py, with LF-ViT's and CF-ViT's objectives."""

import math
from typing import Any

import pytest
import torch
from networks.cases import images, narrow
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.networks.stages import stage_names
from lfvit_cli.training.objective import ObjectiveSettings
from lfvit_cli.training.two_grids import TwoGridObjective

LABELS = torch.tensor([1, 3])
SEEDS = torch.tensor([7, 8])
SIDE = 96


def lf_vit(final_form_from: float | None = None) -> TwoGridObjective:
    """LF-ViT's objective on a narrow network with lively weights."""
    network = narrow("lf_deit_tiny", depth=4, location_grid=3)
    return TwoGridObjective(network, ObjectiveSettings(final_form_from=final_form_from))


def cf_vit(final_form_from: float | None = None) -> TwoGridObjective:
    """CF-ViT's, likewise."""
    network = narrow("cf_deit_tiny", depth=4, coarse_grid=3)
    return TwoGridObjective(network, ObjectiveSettings(final_form_from=final_form_from))


def answers(objective: TwoGridObjective, seen: Tensor, select: bool) -> tuple[Tensor, Tensor]:
    """(B, K) probabilities of the fine and of the coarse pass, straight from the network."""
    network: Any = objective.network
    coarse = network.coarse(seen)
    return network.fine(seen, coarse, select=select).logits.detach().softmax(1), coarse.logits.detach().softmax(1)


@pytest.mark.parametrize("make", [lf_vit, cf_vit])
@pytest.mark.parametrize(("progress", "select"), [(0.76, False), (0.77, True)])
def test_loss_is_worked_out_by_hand(make: Any, progress: float, select: bool) -> None:
    """CE(fine) + KL(fine || coarse); the selection starts at 230 of 300 epochs."""
    objective, seen = make(), images(2, SIDE)
    losses = objective(seen, LABELS, None, progress, SEEDS)
    p, q = answers(objective, seen, select)
    other = answers(objective, seen, not select)[0]
    assert not torch.allclose(p, other, atol=1e-4)
    learned = -(math.log(p[0, 1]) + math.log(p[1, 3])) / 2
    followed = float((p * (p / q).log()).sum()) / 2
    coarse, fine = stage_names(objective.network)
    assert losses[fine].item() == pytest.approx(learned, rel=1e-4)
    assert losses[coarse].item() == pytest.approx(followed, rel=1e-3)
    assert losses["loss"].item() == pytest.approx(learned + followed, rel=1e-4)


def test_parts_are_called_as_the_stages() -> None:
    """So that the table has one name for each stage."""
    for objective in (lf_vit(), cf_vit()):
        losses = objective(images(2, SIDE), LABELS, None, 0.0, SEEDS)
        assert tuple(losses) == ("loss", *stage_names(objective.network))


def test_mixed_targets_mix_the_fine_loss() -> None:
    """The fine loss of a mixture of two labels is the mixture of their losses; the coarse pass's stays."""
    objective, seen, other = lf_vit(0.0), images(2, SIDE), torch.tensor([0, 2])
    one, two = objective(seen, LABELS, None, 0.0, SEEDS), objective(seen, other, None, 0.0, SEEDS)
    mixed = objective(seen, 0.3 * F.one_hot(LABELS, 5) + 0.7 * F.one_hot(other, 5), None, 0.0, SEEDS)
    assert mixed["focus"].item() == pytest.approx(0.3 * one["focus"].item() + 0.7 * two["focus"].item(), rel=1e-4)
    assert mixed["location"].item() == pytest.approx(one["location"].item(), rel=1e-5)


def test_coarse_pass_learns_from_a_detached_fine_pass() -> None:
    """The coarse loss alone gives the reuse block, through which only the fine pass goes, no gradient."""
    objective = lf_vit()
    network: Any = objective.network
    objective(images(2, SIDE), LABELS, None, 1.0, SEEDS)["location"].backward()
    assert all(parameter.grad is None for parameter in network.reuse_block.parameters())
    assert network.head.weight.grad is not None


@pytest.mark.parametrize(("final_form_from", "whole"), [(0.5, False), (0.0, True)])
def test_parameters_without_a_gradient_are_told_beforehand(final_form_from: float, whole: bool) -> None:
    """Before the selection starts, the fine positions have none; several processes must know."""
    objective = lf_vit(final_form_from)
    assert objective.always_whole is whole
    objective(images(2, SIDE), LABELS, None, 0.0, SEEDS)["loss"].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters()) is whole
