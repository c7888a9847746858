"""DiffRate: every block prunes the tokens that matter least to the class token, and merges some of the others."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.clustering import precise
from lfvit_cli.networks.layers import Block, descending, gather_tokens, merge_heads, split_heads
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.traces import Tokens, Trace

# Tokens that each block of DeiT-S keeps at 2.9 GMACs after pruning and after merging, of 197.
TOKENS = 197
PRUNE_KEPT = (197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3)
MERGE_KEPT = (197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3)
SMALLEST_SIZE = 1e-6


class DiffRate(PlainViT):
    """Differentiable compression rate (Chen et al., ICCV 2023, arXiv 2305.17997), with rates that were found before.

    Args:
        prune_kept_num: tokens that each block keeps when it prunes, the class token among them; by default those
            published for DeiT-S at 2.9 GMACs, or as large a share of another number of tokens.
        merge_kept_num: tokens that each block keeps when it merges then; by default likewise.
        plain: keywords of :class:`PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(
        self,
        prune_kept_num: Sequence[int] | None = None,
        merge_kept_num: Sequence[int] | None = None,
        **plain: Any,
    ) -> None:
        super().__init__(**plain)
        tokens, depth = 1 + self.num_patches, len(self.blocks)
        self.prune_kept = _listed("prune_kept_num", prune_kept_num, PRUNE_KEPT, tokens, depth)
        self.merge_kept = _listed("merge_kept_num", merge_kept_num, MERGE_KEPT, tokens, depth)
        _check(self.prune_kept, self.merge_kept, tokens)

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and the token that each patch is in after each reduction."""
        tokens, size = self.embed(images), None
        # The place that each original token is at, -1 once it is pruned.
        place = torch.arange(tokens.shape[1], device=images.device).expand(tokens.shape[0], -1)
        traces = list[Trace]()
        for layer, block in enumerate(self.blocks):
            pruned, merged = self.prune_kept[layer], self.merge_kept[layer]
            tokens, size, moved = self._reduce(block, tokens, size, pruned, merged)
            if moved is not None:
                place = torch.where(place < 0, -1, moved.gather(1, place.clamp(min=0)))
                traces.append(Tokens(place[:, 1:].unflatten(1, self.grid), f"layer {layer}"))
            tokens = block.feed(tokens)
        return Output(self.classify(tokens), traces=tuple(traces))

    def _reduce(
        self, block: Block, tokens: Tensor, size: Tensor | None, pruned: int, merged: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The first half of a block, after which tokens are pruned and merged.

        Args:
            block: of the network.
            tokens: (B, n, C), the class token first.
            size: (B, n) of each, as merging counts them; None while all are 1.
            pruned: tokens left by pruning.
            merged: tokens left by merging then.

        Returns:
            The (B, merged, C) tokens left; their (B, merged) sizes; and the new place of each old token (B, n), -1 for
            those pruned, None where nothing has changed.
        """
        heads, count = block.attn.num_heads, tokens.shape[1]
        query, key, value = split_heads(block.attn.qkv(block.norm1(tokens)), 3, heads)
        bias = None if size is None else size.log().to(query.dtype)
        places = moved = None
        if merged < count:
            order = descending(class_attention(query, key, bias))[:, : pruned - 1]
            places = torch.cat((torch.zeros_like(order[:, :1]), order + 1), dim=1)
            # Only tokens that go on attend, to all that were there.
            query = query.gather(2, places[:, None, :, None].expand(-1, heads, -1, query.shape[-1]))
            tokens = gather_tokens(tokens, places)
            size = None if size is None else size.gather(1, places)
            rank = torch.arange(pruned, device=places.device).expand_as(places)
            moved = torch.full_like(places[:, :1], -1).expand(-1, count).scatter(1, places, rank)
        mask = None if bias is None else bias[:, None, None, :]
        mixed = merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        tokens = tokens + block.drop_path(block.attn.proj(mixed))
        if moved is not None and merged < pruned:
            tokens, size, target = merge_last(tokens, size, merged)
            moved = torch.where(moved < 0, -1, target.gather(1, moved.clamp(min=0)))
        return tokens, size, moved

    def published_macs(self) -> dict[str, int]:
        """MACs by the authors' implementation (fvcore, batch 1).

        It attends for all tokens before it prunes some, compares those that merge with the class token as well, and
        normalises all tokens at the end; but it need not compute the class attention once more.
        """
        width, norm, count = self.num_features, 5 * self.num_features, 1 + self.num_patches
        total = self.num_patches * self.patch_embed.proj.weight.numel() + width * self.num_classes
        for block, pruned, merged in zip(self.blocks, self.prune_kept, self.merge_kept, strict=True):
            total += count * (4 * width**2 + 2 * count * width + norm) + (pruned - merged) * merged * width
            total += merged * (2 * block.mlp.fc1.weight.numel() + norm)
            count = merged
        return {"full": total + count * norm}


def class_attention(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """The class token's attention to the others, averaged over the heads.

    Args:
        query: (B, H, n, d), the class token first.
        key: (B, H, n, d).
        bias: (B, n) added for each key; None for none.

    Returns:
        (B, n - 1) shares of 1 of all n tokens; float32 at least, as their order matters.
    """
    scores = precise(query[:, :, :1] @ key.transpose(-2, -1)).squeeze(2) * query.shape[-1] ** -0.5
    weights: Tensor = (scores if bias is None else scores + bias.unsqueeze(1)).softmax(dim=-1).mean(dim=1)
    return weights[:, 1:]


def merge_last(tokens: Tensor, size: Tensor | None, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the last tokens into those most like them.

    Args:
        tokens: (B, n, C); nothing merges into the first, the class token.
        size: (B, n); None where all are 1.
        kept: m, how many stay.

    Returns:
        The (B, m, C) tokens, plain means of what they are merged from; their (B, m) sizes, grown by the size of each
        token merged into them times its likeness (cosine); and the new place of each old token (B, n).
    """
    size = precise(torch.ones_like(tokens[..., 0])) if size is None else size
    metric = tokens / tokens.norm(dim=-1, keepdim=True)
    likeness = precise(metric[:, kept:] @ metric[:, 1:kept].transpose(1, 2))
    best, partner = likeness.max(dim=-1)
    target = partner + 1
    into = target.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    sums = tokens[:, :kept].scatter_add(1, into, tokens[:, kept:])
    members = torch.ones_like(size[:, :kept]).scatter_add(1, target, torch.ones_like(best))
    # Negative likeness makes it smaller; its logarithm is taken.
    grown = size[:, :kept].scatter_add(1, target, size[:, kept:] * best).clamp(min=SMALLEST_SIZE)
    stay = torch.arange(kept, device=tokens.device).expand(tokens.shape[0], -1)
    return sums / members.unsqueeze(-1).to(tokens.dtype), grown, torch.cat((stay, target), dim=1)


def _listed(name: str, given: Any, published: Sequence[int], tokens: int, depth: int) -> tuple[int, ...]:
    """Tokens kept by each block: those given, or the published ones."""
    if given is None and depth == len(published):
        return tuple(max(2, round(count * tokens / TOKENS)) for count in published)
    counts = tuple(given) if isinstance(given, Sequence) else (given,)
    if len(counts) != depth or not all(isinstance(count, int) for count in counts):
        raise KeywordError(
            f"{name}={given} does not say how many tokens each of {depth} blocks keeps",
            "Give a number for each block, the class token counted.",
        )
    return counts


def _check(prune_kept: Sequence[int], merge_kept: Sequence[int], tokens: int) -> None:
    """Raise a KeywordError where a block keeps more than there are, or merges with nothing but the class token."""
    for layer, (before, pruned, merged) in enumerate(zip((tokens, *merge_kept), prune_kept, merge_kept, strict=False)):
        if not (1 <= merged <= pruned <= before and (merged == pruned or merged > 1)):
            raise KeywordError(
                f"block {layer} cannot keep {pruned} of {before} tokens, then {merged}",
                "Give prune_kept_num and merge_kept_num that never grow, and leave at least 2 where tokens merge.",
            )


METHOD = register(
    Method(
        family="DiffRate",
        network=DiffRate,
        models=deit_sizes("diffrate"),
        published={"diffrate_deit_small": (Published(79.5, 2.9, "DiffRate, README, off the shelf"),)},
        training="needs none: it runs with a plain DeiT's weights, and rates that were searched for",
        note="T and B take the rates published for S, unless prune_kept_num and merge_kept_num are given",
    )
)
