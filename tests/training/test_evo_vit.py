"""Tests of training/evo_vit.py."""

import pytest
import torch
from networks.cases import images, narrow
from torch.nn import functional as F

from lfvit_cli.networks.evo_vit import selection_layers
from lfvit_cli.training.evo_vit import EvoViTObjective
from lfvit_cli.training.objective import ObjectiveSettings


@pytest.mark.parametrize(("progress", "selection"), [(0.66, "layer"), (0.67, "stage")])
def test_loss_is_worked_out_by_hand(progress: float, selection: str) -> None:
    """The mean of the two heads' cross entropies; before every layer first, per stage from two thirds on."""
    model, seen, labels = (
        narrow("evo_deit_tiny_patch16_224", depth=10, img_size=96),
        images(2, 96),
        torch.tensor([1, 3]),
    )
    losses = EvoViTObjective(model, ObjectiveSettings())(seen, labels, None, progress, torch.tensor([7, 8]))
    token, tokens, kept = model.evolve(seen, selection_layers(selection, 10))
    one = F.cross_entropy(model.head(model.norm(tokens.mean(1))), labels).item()
    two = F.cross_entropy(model.head_cls(model.norm_cls(token[:, 0])), labels).item()
    assert losses["loss"].item() == pytest.approx((one + two) / 2, rel=1e-5)
    assert len(kept) == {"layer": 6, "stage": 2}[selection]
