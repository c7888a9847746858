"""Tests of networks/exits.py: the criteria, as functions of logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfvit_cli.networks.exits import confidence, entropy, goes_on, margin, measure, top10_entropy
from lfvit_cli.policies import Criterion, ExitPolicy


def random_logits(seed: int, classes: int) -> Tensor:
    """(8, K) logits of any sharpness."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, classes, generator=generator) * torch.rand(8, 1, generator=generator) * 20


@settings(deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 30))
def test_criteria_are_what_their_names_say(seed: int, classes: int) -> None:
    """Against the definitions in double precision, class by class."""
    logits = random_logits(seed, classes)
    for row, all_logits in enumerate(logits.double()):
        p = sorted(all_logits.softmax(0).tolist(), reverse=True)
        top = [each / sum(p[:10]) for each in p[:10]]
        assert float(confidence(logits)[row]) == pytest.approx(p[0], abs=1e-6)
        assert float(margin(logits)[row]) == pytest.approx(p[0] - p[1], abs=1e-6)
        assert float(entropy(logits)[row]) == pytest.approx(-sum(q * math.log(q) for q in p if q), abs=1e-5)
        expected = -sum(q * math.log(q) for q in top if q)
        assert float(top10_entropy(logits)[row]) == pytest.approx(expected, abs=1e-5)


def test_the_entropy_of_the_top_ten_does_not_grow_with_the_classes() -> None:
    """At most ln 10, however many classes; about 1.2e-7, not 0, where an answer is entirely sure."""
    assert float(top10_entropy(torch.zeros(1, 1000))) == pytest.approx(math.log(10))
    assert float(top10_entropy(torch.zeros(1, 3))) == pytest.approx(math.log(3))
    sure = float(top10_entropy(torch.tensor([[200.0, 0.0, 0.0]])))
    assert 0 < sure < 1e-6


@pytest.mark.parametrize("criterion", list(Criterion))
def test_criteria_are_float32_in_any_precision(criterion: Criterion) -> None:
    """Also of bfloat16 logits; and defined for a single class."""
    assert measure(criterion, torch.zeros(2, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert measure(criterion, torch.zeros(2, 1)).shape == (2,)


@pytest.mark.parametrize("criterion", list(Criterion))
def test_no_exit_lets_nothing_exit(criterion: Criterion) -> None:
    """Not even the surest answer."""
    sure = torch.tensor([[500.0, 0.0, 0.0]])
    policy = ExitPolicy.at(criterion.no_exit, criterion=criterion)
    assert bool(goes_on(sure, policy, 0).all())
