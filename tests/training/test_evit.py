"""Tests of training/evit.py."""

from typing import Any

import pytest
import torch
from networks.cases import images, narrow
from torch.nn import functional as F

from lfvit_cli.training.evit import EViTObjective
from lfvit_cli.training.objective import ObjectiveSettings

LABELS = torch.tensor([1, 3])
SEEDS = torch.tensor([7, 8])


def objective(final_form_from: float | None = None) -> EViTObjective:
    """On a narrow network that keeps half of its 16 patches in its second block."""
    network = narrow("evit_deit_tiny", depth=3, img_size=64, keep_rate=(1, 0.5, 1))
    return EViTObjective(network, ObjectiveSettings(final_form_from=final_form_from))


@pytest.mark.parametrize(
    ("progress", "rate"), [(0.0, 1.0), (10 / 300, 1.0), (55 / 300, 0.75), (100 / 300, 0.5), (1.0, 0.5)]
)
def test_keep_rate_falls_along_a_cosine(progress: float, rate: float) -> None:
    """1 for 10 of 300 epochs, half-way down after 55, the network's own from 100 on; blocks that keep all keep all."""
    assert objective().rates((1, 0.5, 1), progress) == pytest.approx((1, rate, 1))


def test_fine_tuning_keeps_the_final_rate_from_the_start() -> None:
    """As in the second published recipe."""
    assert objective(0.0).rates((1, 0.5, 1), 0.0) == (1, 0.5, 1)


def test_loss_is_the_cross_entropy_with_the_tokens_of_the_time() -> None:
    """At first as a network that keeps all, at the end as at inference."""
    trained, seen = objective(), images(2, 64)
    network: Any = trained.network
    for progress, counts in ((0.0, {}), (1.0, {1: 8})):
        losses = trained(seen, LABELS, None, progress, SEEDS)
        logits = network.answer_keeping(seen, counts).logits
        assert losses["loss"].item() == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-5)
    assert network.counts == {1: 8}
