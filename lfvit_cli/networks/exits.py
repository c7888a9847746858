"""The criteria of an exit, as functions of logits; in float32 whatever the network's precision."""

import torch
from torch import Tensor

from lfvit_cli.policies import Criterion, ExitPolicy

MOST_PROBABLE = 10


def confidence(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) largest softmax probability."""
    return logits.float().softmax(dim=-1).amax(dim=-1)


def margin(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) difference of the two largest probabilities; the largest itself for a single class."""
    probabilities = logits.float().softmax(dim=-1)
    best = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
    return best[:, 0].sub(best[:, 1]) if best.shape[-1] > 1 else best[:, 0]


def entropy(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) entropy of all classes, in nats."""
    doubt: Tensor = torch.special.entr(logits.float().softmax(dim=-1)).sum(dim=-1)
    return doubt


def top10_entropy(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) entropy of the min(10, K) largest probabilities, made to sum to one; in nats.

    As ThinkingViT decides: inside the logarithm alone, probabilities are clamped as ``torch.distributions`` does.
    """
    probabilities = logits.float().softmax(dim=-1)
    best = probabilities.topk(min(MOST_PROBABLE, probabilities.shape[-1]), dim=-1).values
    best = best / best.sum(dim=-1, keepdim=True)
    smallest = torch.finfo(best.dtype).eps
    doubt: Tensor = -(best * best.clamp(smallest, 1 - smallest).log()).sum(dim=-1)
    return doubt


MEASURES = {
    Criterion.CONFIDENCE: confidence,
    Criterion.MARGIN: margin,
    Criterion.ENTROPY: entropy,
    Criterion.TOP10_ENTROPY: top10_entropy,
}


def measure(criterion: Criterion, logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) float32 values that a criterion compares with its threshold."""
    return MEASURES[criterion](logits)


def goes_on(logits: Tensor, policy: ExitPolicy, stage: int) -> Tensor:
    """(B, K) logits of a stage to (B,): whether its answer does not stand; a value that is no number goes on."""
    stands: Tensor = policy.criterion.exits(measure(policy.criterion, logits), policy.thresholds[stage])
    return stands.logical_not()
