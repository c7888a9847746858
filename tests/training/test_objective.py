"""Tests of training/objective.py: each loss against a sum worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lfvit_cli.training.objective import cross_entropy, distilled_cross_entropy, divergence


def logits(*probabilities: float) -> torch.Tensor:
    """Logits (1, K) whose softmax these are."""
    return torch.tensor([probabilities]).log()


def test_cross_entropy_of_an_index_and_of_probabilities() -> None:
    """A label costs the negative log of its probability; a mixed label the mixture of two such costs."""
    answer = logits(0.5, 0.25, 0.25)
    assert cross_entropy(answer, torch.tensor([1])).item() == pytest.approx(math.log(4))
    mixed = 0.7 * math.log(2) + 0.3 * math.log(4)
    assert cross_entropy(answer, torch.tensor([[0.7, 0.3, 0.0]])).item() == pytest.approx(mixed)


def test_divergence_is_a_mean_over_the_batch() -> None:
    """KL(target || answer), by hand for one photo, halved where another photo agrees exactly."""
    target, answer = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log(), torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    expected = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert divergence(target, answer).item() == pytest.approx(expected)


def test_divergence_teaches_in_one_direction() -> None:
    """The target gets no gradient, the answer does."""
    target, answer = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    divergence(target, answer).backward()
    assert target.grad is None
    assert answer.grad is not None
    assert answer.grad.abs().sum() > 0


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_divergence_is_never_negative(one: list[float], other: list[float]) -> None:
    """It is zero for equal answers and never below."""
    assert divergence(torch.tensor([one]), torch.tensor([other])).item() >= -1e-5
    assert divergence(torch.tensor([one]), torch.tensor([one])).item() == pytest.approx(0, abs=1e-6)


def test_soft_distillation() -> None:
    """Half cross entropy, half the divergence at a temperature, times its square."""
    # At temperature 2 the probabilities 0.9 and 0.1 become 3 : 1, and 0.5 and 0.5 stay.
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    loss = distilled_cross_entropy(logits(0.5, 0.5), torch.tensor([0]), logits(0.9, 0.1), "soft", 2.0, 0.5)
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 0.5 * 4 * kl)


def test_hard_distillation() -> None:
    """The teacher's first class is a second label."""
    answer = logits(0.8, 0.2)
    loss = distilled_cross_entropy(answer, torch.tensor([0]), logits(0.4, 0.6), "hard", alpha=0.25)
    assert loss.item() == pytest.approx(0.75 * -math.log(0.8) + 0.25 * -math.log(0.2))


def test_without_a_teacher_nothing_is_distilled() -> None:
    """It is the cross entropy, whatever distillation is named."""
    answer = logits(0.8, 0.2)
    for distilled in (
        distilled_cross_entropy(answer, torch.tensor([0]), None, "hard"),
        distilled_cross_entropy(answer, torch.tensor([0]), logits(0.1, 0.9), "none"),
    ):
        assert distilled.item() == pytest.approx(-math.log(0.8))
