"""The losses that the families are trained with, each a function of tensors."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Distillation = Literal["none", "soft", "hard"]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy.

    Args:
        logits: (B, K).
        targets: (B,) class indexes, or (B, K) probabilities from mixup or label smoothing.
    """
    return F.cross_entropy(logits.float(), targets)


def divergence(target_logits: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(target_logits) || softmax(logits)), mean over the batch.

    Args:
        target_logits: (B, K); no gradient flows into them.
        logits: (B, K).
        temperature: divides both; the result is scaled by its square, which keeps the size of the gradient
            (Hinton et al., 2015, section 2).
    """
    targets = (target_logits.detach().float() / temperature).log_softmax(dim=-1)
    answers = (logits.float() / temperature).log_softmax(dim=-1)
    return F.kl_div(answers, targets, reduction="batchmean", log_target=True) * temperature**2


def distilled_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    teacher_logits: Tensor | None,
    distillation: Distillation = "none",
    temperature: float = 3.0,
    alpha: float = 0.5,
) -> Tensor:
    """Cross entropy, mixed with what a teacher answers: DeiT's equations 2 and 3, on the one head.

    Args:
        logits: (B, K) of the student.
        targets: as for :func:`cross_entropy`.
        teacher_logits: (B, K); None where there is no teacher.
        distillation: ``soft`` compares probabilities at a temperature, ``hard`` takes the teacher's first class as a
            second label.
        temperature: of the soft distillation.
        alpha: the teacher's share.
    """
    own = cross_entropy(logits, targets)
    if distillation == "none" or teacher_logits is None:
        return own
    if distillation == "soft":
        taught = divergence(teacher_logits, logits, temperature)
    else:
        taught = cross_entropy(logits, teacher_logits.argmax(dim=-1))
    return (1 - alpha) * own + alpha * taught


def ratio_loss(kept: list[Tensor], ratios: list[float]) -> Tensor:
    """Mean over photos and prunings of (share of patches kept - share to keep)^2 (DynamicViT, equation 14).

    Args:
        kept: one (B, N) tensor of decisions in {0, 1} for each pruning.
        ratios: the share that each pruning should leave.
    """
    misses = [(decisions.float().mean(dim=1) - ratio) ** 2 for decisions, ratio in zip(kept, ratios, strict=True)]
    return torch.stack(misses).mean()


def token_loss(tokens: Tensor, teacher_tokens: Tensor, kept: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared difference from the teacher's final tokens, over the tokens that were kept (DynamicViT, eq. 12).

    Args:
        tokens: (B, N, C).
        teacher_tokens: (B, N, C).
        kept: (B, N) in {0, 1}; no gradient flows into it.
        count: of the kept tokens, where others than these photos' count; by default the sum of ``kept``.
    """
    mask = kept.detach().float().unsqueeze(-1)
    squares = (tokens.float() - teacher_tokens.detach().float()) ** 2 * mask
    count = mask.sum() if count is None else count
    return squares.sum() / (count.clamp(min=1) * tokens.shape[-1])
