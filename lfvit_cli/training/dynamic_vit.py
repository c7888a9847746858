"""Training DynamicViT: no token is removed; random decisions mask those that would be."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import torch
from accelerate.utils import reduce
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import TrainingError
from lfvit_cli.networks.dynamic_vit import DynamicViT, ScorePredictor
from lfvit_cli.networks.layers import Attention, merge_heads, split_heads
from lfvit_cli.training.objective import Lesson, Objective, cross_entropy, divergence

EPSILON = 1e-6
RATIO_WEIGHT, LOGITS_WEIGHT, TOKENS_WEIGHT = 2.0, 0.5, 0.5

# (B, N, 2) log-probabilities of keeping and of dropping, and which pruning it is, to (B, N) decisions in {0, 1}.
Decide = Callable[[Tensor, int], Tensor]


class MaskedAnswer(NamedTuple):
    """What the network answers when tokens are masked instead of removed.

    Attributes:
        logits: (B, K).
        tokens: (B, N, C) normalised final patch tokens.
        kept: one (B, N) tensor in {0, 1} for each pruning: whether the patch has survived it and all before.
    """

    logits: Tensor
    tokens: Tensor
    kept: list[Tensor]


class DynamicViTObjective(Objective):
    """CE + 2 ratio + 0.5 KL(teacher || student) + 0.5 token MSE (Rao et al., NeurIPS 2021, section 3.3).

    The last two need the unpruned network as a teacher, and are left out without one.
    """

    has_own_distillation: ClassVar[bool] = True

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,  # noqa: ARG002
        seeds: Tensor,
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`; the parts, not yet weighted, are ``class``, ``ratio``, ``logits``, ``tokens``.

        Raises:
            TrainingError: the teacher's tokens are not the student's.
        """
        network = cast(DynamicViT, self.network)
        patches = network.patch_embed.num_patches
        noise = gumbel_noise(seeds, len(network.pruning_layers), patches).to(images.device)
        answer = masked_forward(network, images, lambda scores, pruning: gumbel_decisions(scores, noise[:, pruning]))
        parts = {
            "class": cross_entropy(answer.logits, targets),
            "ratio": ratio_loss(answer.kept, [count / patches for count in network.kept_counts]),
        }
        loss = parts["class"] + RATIO_WEIGHT * parts["ratio"]
        if lesson is not None:
            teacher_tokens = _teacher_tokens(lesson, answer.tokens)
            parts["logits"] = divergence(lesson.logits, answer.logits)
            kept = answer.kept[-1].detach()
            # Every process divides by the same count, so that the mean of their gradients is that of the whole batch.
            parts["tokens"] = token_loss(answer.tokens, teacher_tokens, kept, reduce(kept.sum(), "mean"))
            loss = loss + LOGITS_WEIGHT * parts["logits"] + TOKENS_WEIGHT * parts["tokens"]
        return {"loss": loss, **parts}


def gumbel_noise(seeds: Tensor, prunings: int, patches: int) -> Tensor:
    """Standard Gumbel noise (B, P, N, 2), each photo's from its own of the (B,) seeds; drawn on the CPU."""
    photos = [torch.empty(prunings, patches, 2, device="cpu") for _ in range(len(seeds))]
    for noise, seed in zip(photos, seeds.tolist(), strict=True):
        noise.exponential_(generator=torch.Generator().manual_seed(seed))
    return -torch.stack(photos).log()


def gumbel_decisions(scores: Tensor, noise: Tensor) -> Tensor:
    """Hard decisions (B, N), whose gradient is that of the soft ones (section 3.2, equation 8).

    Args:
        scores: (B, N, 2) log-probabilities of keeping and of dropping.
        noise: (B, N, 2) standard Gumbel noise.
    """
    soft = (scores.float() + noise).softmax(dim=-1)[..., 0]
    return (soft >= 0.5).float() - soft.detach() + soft


def masked_forward(network: DynamicViT, images: Tensor, decide: Decide) -> MaskedAnswer:
    """(B, 3, S, S) images through all layers, with decisions multiplied down the prunings."""
    tokens = network.embed(images)
    survivors = tokens.new_ones(tokens.shape[:2], dtype=torch.float32)[:, 1:]
    kept: list[Tensor] = []
    for layer, block in enumerate(network.blocks):
        if layer in network.pruning_layers:
            pruning = len(kept)
            scores = masked_scores(cast(ScorePredictor, network.score_predictor[pruning]), tokens[:, 1:], survivors)
            survivors = survivors * decide(scores, pruning)
            kept.append(survivors)
        tokens = _masked_block(block, tokens, survivors) if kept else block(tokens)
    tokens = network.norm(tokens)
    return MaskedAnswer(network.head(tokens[:, 0]), tokens[:, 1:], kept)


def masked_scores(predictor: ScorePredictor, patches: Tensor, survivors: Tensor) -> Tensor:
    """The predictor's (B, N, 2) log-probabilities where the mean is over the survivors only.

    Args:
        predictor: of this pruning.
        patches: (B, N, C).
        survivors: (B, N) in {0, 1}.
    """
    local, shared = predictor.in_conv(patches).chunk(2, dim=-1)
    weights = survivors.unsqueeze(-1)
    # A photo without survivors has a zero mean, not 0 / 0.
    mean = (shared * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp(min=1)
    scores: Tensor = predictor.out_conv(torch.cat((local, mean.to(local.dtype).expand_as(local)), dim=-1))
    return scores


def masked_attention(attention: Attention, tokens: Tensor, survivors: Tensor) -> Tensor:
    """Self-attention in which nothing is seen of dropped patches, but by themselves (section 3.3, equation 11).

    Args:
        attention: the layer's.
        tokens: (B, N + 1, C), the class token first.
        survivors: (B, N) in {0, 1}.
    """
    query, key, value = split_heads(attention.qkv(tokens), 3, attention.num_heads)
    scores = (query @ key.transpose(-2, -1)).float() * query.shape[-1] ** -0.5
    seen = F.pad(survivors, (1, 0), value=1.0)[:, None, None, :]
    count = seen.shape[-1]
    itself = torch.eye(count, device=seen.device)
    visible = seen + (1 - seen) * itself
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp() * visible
    weights = (weights + EPSILON / count) / (weights.sum(dim=-1, keepdim=True) + EPSILON)
    mixed: Tensor = attention.proj(merge_heads(weights.to(value.dtype) @ value))
    return mixed


def _masked_block(block: Any, tokens: Tensor, survivors: Tensor) -> Tensor:
    tokens = tokens + block.drop_path(masked_attention(block.attn, block.norm1(tokens), survivors))
    finished: Tensor = tokens + block.drop_path(block.mlp(block.norm2(tokens)))
    return finished


def _teacher_tokens(lesson: Lesson, tokens: Tensor) -> Tensor:
    if lesson.tokens is None or lesson.tokens.shape != tokens.shape:
        raise TrainingError(
            "the teacher has no final tokens of the student's number and width",
            "Give the unpruned network as --teacher: the DeiT of the same size.",
        )
    return lesson.tokens


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


OBJECTIVE = DynamicViTObjective
