"""Tests of training/dynamic_vit.py."""

import pytest
import torch
from networks.cases import close, images, narrow
from torch import Tensor

from lfvit_cli.errors import TrainingError
from lfvit_cli.networks.dynamic_vit import DynamicViT
from lfvit_cli.networks.layers import Attention
from lfvit_cli.networks.traces import Tokens
from lfvit_cli.training.dynamic_vit import (
    DynamicViTObjective,
    gumbel_decisions,
    gumbel_noise,
    masked_attention,
    masked_forward,
    ratio_loss,
    token_loss,
)
from lfvit_cli.training.objective import Lesson, ObjectiveSettings, cross_entropy, divergence


def network() -> DynamicViT:
    """A narrow network with two prunings."""
    built: DynamicViT = narrow("dynamicvit_deit_tiny", depth=4, pruning_layers=(1, 2), img_size=64)
    return built


def test_masking_answers_as_removing_does() -> None:
    """With the decisions of inference, the masked network's logits are those of the network that drops tokens."""
    model = network()
    seen = images(3, 64)
    answer = model.answer(seen)

    def as_at_inference(_scores: Tensor, pruning: int) -> Tensor:
        trace = answer.traces[pruning]
        assert isinstance(trace, Tokens)
        return (trace.owner >= 0).flatten(1).float()

    masked = masked_forward(model, seen, as_at_inference)
    assert [kept.sum(dim=1).tolist() for kept in masked.kept] == [[count] * 3 for count in model.kept_counts]
    assert close(masked.logits, answer.logits, 1e-3)


def test_masked_attention_by_hand() -> None:
    """Class token, a kept and a dropped patch, all scores equal: who sees whom, and with what weight."""
    attention = Attention(4, 1)
    with torch.no_grad():
        # Queries and keys are zero, so all scores are; values and the projection are the tokens themselves.
        attention.qkv.weight.copy_(torch.cat((torch.zeros(8, 4), torch.eye(4))))
        attention.proj.weight.copy_(torch.eye(4))
        attention.qkv.bias.zero_()
        attention.proj.bias.zero_()
    tokens = torch.eye(3, 4).unsqueeze(0)
    mixed = masked_attention(attention, tokens, torch.tensor([[1.0, 0.0]]))
    half, third = 1 / 2, 1 / 3
    expected = torch.tensor([[half, half, 0, 0], [half, half, 0, 0], [third, third, third, 0]]).unsqueeze(0)
    assert close(mixed, expected, 1e-5)


def test_what_is_dropped_stays_dropped() -> None:
    """Decisions are multiplied down the prunings: a later one cannot bring a patch back."""
    decisions = [torch.zeros(1, 16), torch.ones(1, 16)]
    decisions[0][:, :5] = 1
    answer = masked_forward(network(), images(1, 64), lambda _, pruning: decisions[pruning])
    assert answer.kept[1].tolist() == decisions[0].tolist()


def test_decisions_are_hard_and_learn() -> None:
    """Drawn decisions are 0 or 1, follow the scores, and pass a gradient to them."""
    scores = torch.tensor([0.9, 0.1]).log().expand(1, 2000, 2).clone().requires_grad_()
    decisions = gumbel_decisions(scores, gumbel_noise(torch.tensor([0]), 1, 2000)[:, 0])
    assert set(decisions.detach().flatten().tolist()) == {0.0, 1.0}
    assert decisions.mean().item() == pytest.approx(0.9, abs=0.03)
    decisions.sum().backward()
    assert scores.grad is not None
    assert scores.grad.abs().sum() > 0


def test_noise_is_each_photos_own() -> None:
    """A photo's noise depends on its seed alone, and is Gumbel's: mean 0.577, variance 1.645."""
    noise = gumbel_noise(torch.tensor([3, 4]), 2, 5000)
    assert noise.shape == (2, 2, 5000, 2)
    assert noise[1].equal(gumbel_noise(torch.tensor([4]), 2, 5000)[0])
    assert noise.mean().item() == pytest.approx(0.577, abs=0.02)
    assert noise.var().item() == pytest.approx(1.645, abs=0.05)


def test_loss_is_the_published_sum() -> None:
    """CE + 2 ratio + 0.5 KL + 0.5 tokens, worked out from the same draws; without a teacher only the first two."""
    model = network()
    objective = DynamicViTObjective(model, ObjectiveSettings())
    seen, labels = images(2, 64), torch.tensor([1, 3])
    lesson = Lesson(torch.randn(2, 5), torch.randn(2, 16, 24))
    seeds = torch.tensor([3, 4])
    losses = objective(seen, labels, lesson, 0.0, seeds)
    alone = objective(seen, labels, None, 0.0, seeds)
    noise = gumbel_noise(seeds, 2, 16)
    answer = masked_forward(model, seen, lambda scores, pruning: gumbel_decisions(scores, noise[:, pruning]))
    # Of 16 patches, the prunings leave 11 and 7.
    misses = [(kept.mean(dim=1) - count / 16) ** 2 for kept, count in zip(answer.kept, (11, 7), strict=True)]
    expected = cross_entropy(answer.logits, labels) + 2 * (misses[0].mean() + misses[1].mean()) / 2
    assert close(alone["loss"], expected, 1e-5)
    assert lesson.tokens is not None
    expected = expected + 0.5 * divergence(lesson.logits, answer.logits)
    expected = expected + 0.5 * token_loss(answer.tokens, lesson.tokens, answer.kept[-1])
    assert close(losses["loss"], expected, 1e-5)


@pytest.mark.parametrize("tokens", [None, torch.zeros(2, 16, 48)])
def test_teacher_of_another_kind_is_refused(tokens: Tensor | None) -> None:
    """A teacher without tokens, or with wider ones, is told with its remedy."""
    objective = DynamicViTObjective(network(), ObjectiveSettings())
    with pytest.raises(TrainingError, match="final tokens"):
        objective(images(2, 64), torch.tensor([1, 3]), Lesson(torch.zeros(2, 5), tokens), 0.0, torch.tensor([0, 1]))


def test_ratio_loss() -> None:
    """Two photos, two prunings: the mean of the four squared misses."""
    first = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])  # 0.75 and 0.5 of 0.5
    second = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])  # 0.25 and 0 of 0.25
    expected = (0.25**2 + 0 + 0 + 0.25**2) / 4
    assert ratio_loss([first, second], [0.5, 0.25]).item() == pytest.approx(expected)


def test_token_loss_looks_at_kept_tokens_only() -> None:
    """The mean of squares over the values of the two kept tokens of three; the dropped one may be anything."""
    tokens = torch.tensor([[[1.0, 2.0], [100.0, 100.0], [0.0, 1.0]]])
    kept = torch.tensor([[1.0, 0.0, 1.0]])
    assert token_loss(tokens, torch.zeros(1, 3, 2), kept).item() == pytest.approx((1 + 4 + 0 + 1) / 4)
    assert token_loss(tokens, torch.zeros(1, 3, 2), torch.zeros(1, 3)).item() == 0
    # Where another process has kept six, four tokens each are divided by.
    assert token_loss(tokens, torch.zeros(1, 3, 2), kept, torch.tensor(4.0)).item() == pytest.approx(6 / 8)
