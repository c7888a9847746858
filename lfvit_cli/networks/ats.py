"""ATS: within some blocks, DeiT samples the tokens that matter to the class token, as many as an image needs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import precise
from lfvit_cli.networks.layers import Block, split_heads
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.ragged import Layout
from lfvit_cli.networks.ragged_vit import RaggedOutput, RaggedViT, mix
from lfvit_cli.networks.traces import Heat, Trace

# Of the released softmax, (e + eps/n) / (sum of e + eps).
SOFTMAX_EPS = 1e-6
FEWEST_POINTS = 2


class ATS(RaggedViT):
    """Adaptive token sampling (Fayyaz et al., ECCV 2022, arXiv 2111.15667), as it answers at inference.

    Each image is answered as if it were alone. The released softmax has an eps, by which what attention mixes differs
    from an ordinary softmax by less than 1e-6 of the values. Here it is heeded where tokens are scored, since that
    decides, and left out of the fused attention.

    Args:
        ats_blocks: 0-based blocks that sample; by default all from block 3 on.
        num_tokens: sampling points of a block, and one more for the class token: a number for all blocks, or one for
            each. By default, as published, as many as there are tokens before the first block.
        plain: keywords of :class:`lfvit_cli.networks.plain_vit.PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self, ats_blocks: Sequence[int] | None = None, num_tokens: int | Sequence[int] | None = None, **plain: Any
    ) -> None:
        super().__init__(**plain)
        depth = len(self.blocks)
        self.ats_blocks = _blocks(range(3, depth) if ats_blocks is None else ats_blocks, depth)
        self.points = _points(1 + self.num_patches if num_tokens is None else num_tokens, depth)

    def answer(self, images: Tensor, _: None = None) -> RaggedOutput:
        """(B, 3, S, S) normalised images to logits, the tokens of each image, and its patches after each sampling."""
        tokens, layout = self.embed(images), Layout()
        batch, ids = tokens.shape[0], self.identify(tokens)
        attended, updated, traces = list[Tensor](), list[Tensor](), list[Trace]()
        for layer, block in enumerate(self.blocks):
            attended.append(layout.counts(ids))
            if layer in self.ats_blocks:
                tokens, ids, layout, scores = self._sample(block, tokens, ids, layout, self.points[layer])
                if not traces:
                    traces.append(Heat(scores.unflatten(1, self.grid), f"scores in layer {layer}"))
                traces.append(self.trace(self.patches(ids, layout, batch), f"layer {layer}"))
            else:
                tokens = self.attend(block, tokens, layout)
            updated.append(layout.counts(ids))
            tokens = block.feed(tokens)
        logits = self.head(self.norm(layout.first(tokens)))
        return RaggedOutput(logits, torch.stack(attended, 1), torch.stack(updated, 1), traces=tuple(traces))

    def _sample(
        self, block: Block, tokens: Tensor, ids: Tensor, layout: Layout, points: int
    ) -> tuple[Tensor, Tensor, Layout, Tensor]:
        """The first half of a block that samples.

        Returns:
            Tokens, ids and layout of the class token and of the tokens sampled; and the (B, m - 1) scores of all.
        """
        heads, width = block.attn.num_heads, self.num_features
        projected = block.attn.qkv(block.norm1(tokens))
        query, key, value = split_heads(layout.rows(projected), 3, heads)
        scores = significance(query[:, :, :1], key, value, layout.present)
        sampled = sample(scores, None if layout.present is None else layout.present[:, 1:], points)
        keep = torch.cat((torch.ones_like(sampled[:, :1]), sampled), dim=1)
        left, chosen = layout.only(layout.flat(keep), drop=not self.training)
        # Only tokens that go on attend, to all that were there.
        (query,) = split_heads(left.rows(layout.take(projected[..., :width], chosen)), 1, heads)
        mixed = left.flat(mix(query, key, value, layout))
        tokens = layout.take(tokens, chosen) + block.drop_path(block.attn.proj(mixed))
        return tokens, layout.take(ids, chosen), left, scores

    def decision_macs(self, attended: Tensor, updated: Tensor) -> Tensor:  # noqa: ARG002  # the frame's signature
        """(B,) MACs of the class token's attention in the blocks that sample, over and above the fused one."""
        return attended[:, list(self.ats_blocks)].sum(dim=1) * self.num_features


@torch.no_grad()
def significance(query: Tensor, key: Tensor, value: Tensor, present: Tensor | None) -> Tensor:
    """What the class token takes from each token: its attention times the length of the value (section 3.1).

    Args:
        query: (B, H, 1, d) of the class token.
        key: (B, H, m, d), the class token first.
        value: (B, H, m, d).
        present: (B, m) which places hold a token; None for all.

    Returns:
        (B, m - 1) without the class token; float32 at least, 0 where there is no token.
    """
    scores = precise(query @ key.transpose(-2, -1)).squeeze(2) * query.shape[-1] ** -0.5
    weights = softmax_of_present(scores, None if present is None else present.unsqueeze(1)).sum(dim=1)
    lengths = precise(value).square().sum(dim=(1, 3)).sqrt()
    return weights[:, 1:] * lengths[:, 1:]


def softmax_of_present(scores: Tensor, present: Tensor | None) -> Tensor:
    """The released softmax over the last axis: with eps, and 0 where ``present`` is False."""
    if present is None:
        count: Tensor | int = scores.shape[-1]
    else:
        count, scores = present.sum(dim=-1, keepdim=True), scores.masked_fill(~present, -torch.inf)
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    weights = (powers + SOFTMAX_EPS / count) / (powers.sum(dim=-1, keepdim=True) + SOFTMAX_EPS)
    return weights if present is None else weights * present


@torch.no_grad()
def sample(scores: Tensor, present: Tensor | None, points: int) -> Tensor:
    """Inverse transform sampling at fixed points (section 3.2): the scores' distribution is read at equal steps.

    Args:
        scores: (B, n), at least 0.
        present: (B, n) which places hold a token; None for all.
        points: K, at least 2.

    Returns:
        (B, n) which tokens are sampled, at least one of each image, and all but one at most if there are several.
    """
    nowhere = torch.zeros_like(scores, dtype=torch.bool) if present is None else ~present
    ascending, order = scores.masked_fill(nowhere, torch.inf).sort(dim=1)
    nowhere = nowhere.gather(1, order)
    total = ascending.masked_fill(nowhere, 0).cumsum(dim=1)
    least, most = total[:, :1], total[:, -1:]
    # The last token alone is as good as any where no score differs from 0, or there is no other.
    shares = torch.where(most > least, (total - least) / (most - least), 1.0).masked_fill(nowhere, torch.inf)
    first = shares.masked_fill(shares == 0, torch.inf).amin(dim=1, keepdim=True)
    steps = torch.arange(points, device=scores.device, dtype=shares.dtype) / (points - 1)
    levels = first + steps - first * steps
    nearest = (levels.unsqueeze(2) - shares.unsqueeze(1)).abs().argmin(dim=2)
    found = torch.zeros_like(nowhere).scatter(1, nearest, torch.ones_like(nearest, dtype=torch.bool))
    return torch.zeros_like(found).scatter(1, order, found)


def _blocks(blocks: Any, depth: int) -> tuple[int, ...]:
    chosen = tuple(blocks) if isinstance(blocks, Sequence) else (blocks,)
    fit = all(isinstance(block, int) and 0 <= block < depth for block in chosen)
    if not fit or list(chosen) != sorted(set(chosen)):
        raise KeywordError(
            f"ats_blocks={blocks} does not fit {depth} blocks", f"Give ascending blocks from 0 to {depth - 1}."
        )
    return chosen


def _points(num_tokens: Any, depth: int) -> tuple[int, ...]:
    numbers = tuple(num_tokens) if isinstance(num_tokens, Sequence) else (num_tokens,) * depth
    if len(numbers) != depth or not all(isinstance(each, int) and each > FEWEST_POINTS for each in numbers):
        raise KeywordError(
            f"num_tokens={num_tokens} does not fit {depth} blocks",
            f"Give a number of at least {FEWEST_POINTS + 1}, or one for each block.",
        )
    return tuple(number - 1 for number in numbers)


METHOD = register(
    Method(
        family="ATS",
        network=ATS,
        models=deit_sizes("ats"),
        published={"ats_deit_small": (Published(79.7, 2.9, "ATS, multi-stage, fine-tuned"),)},
        training="needs none: it runs with a plain DeiT's weights; the cross entropy if trained all the same",
    )
)
