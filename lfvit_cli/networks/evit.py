"""EViT: within some blocks, DeiT keeps the patches that the class token attends to most and fuses the others."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import (
    Block,
    class_attention_row,
    descending,
    gather_tokens,
    merge_heads,
    split_heads,
)
from lfvit_cli.networks.method import Method, Published, deit_sizes, register
from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import Output
from lfvit_cli.networks.token_schedule import quarters
from lfvit_cli.networks.traces import Heat, Tokens, Trace, kept_tokens


class AttentiveViT(PlainViT):
    """DeiT in which some blocks, between attention and MLP, keep the tokens of the largest class attention.

    Attributes:
        counts: tokens beside the class token that each shrinking block keeps.
        fuse_token: whether the others become one more token, their sum weighted by attention.
    """

    counts: dict[int, int]
    fuse_token: bool

    def plan(self, wanted: Callable[[int, int], int]) -> dict[int, int]:
        """The ``counts`` of those blocks that shrink.

        Args:
            wanted: tokens to keep, of a block and the number that reach it, both beside the class token.
        """
        counts, present = dict[int, int](), self.num_patches
        for layer in range(len(self.blocks)):
            count = wanted(layer, present)
            if count < present:
                counts[layer] = count
                present = count + self.fuse_token
        return counts

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and the token that each patch is in after each reduction."""
        return self.answer_keeping(images, self.counts)

    def answer_keeping(self, images: Tensor, counts: Mapping[int, int]) -> Output:
        """The same with other ``counts``, as training has them; a block that need not shrink is a plain one."""
        tokens = self.embed(images)
        # Patches have the ids 0 to N-1, and the token fused at the i-th reduction N+i.
        present = torch.arange(self.num_patches, device=images.device).expand(tokens.shape[0], -1)
        owner, traces = present, list[Trace]()
        reductions = 0
        for layer, block in enumerate(self.blocks):
            count = counts.get(layer, self.num_patches)
            if count >= tokens.shape[1] - 1:
                tokens = block(tokens)
                continue
            tokens, attention, order = self._shrink(block, tokens, count)
            name, ids = f"layer {layer}", present.gather(1, order)
            present, fused = ids[:, :count], self.num_patches + reductions
            if reductions == 0:
                traces.append(Heat(attention.unflatten(1, self.grid), f"class attention in {name}"))
            if self.fuse_token:
                owner = _moved(owner, ids[:, count:], fused)
                present = torch.cat((present, torch.full_like(present[:, :1], fused)), dim=1)
                traces.append(Tokens(owner.unflatten(1, self.grid), name))
            else:
                traces.append(kept_tokens(present, self.grid, name))
            reductions += 1
        return Output(self.classify(tokens), traces=tuple(traces))

    def _shrink(self, block: Block, tokens: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """One block that keeps some tokens.

        Attention is computed for the tokens alone whose outcome is needed: for those dropped only where they are fused.

        Args:
            block: of the network.
            tokens: (B, 1 + n, C), the class token first.
            count: tokens to keep beside the class token.

        Returns:
            The (B, 1 + count, C) tokens, those kept by falling attention, with the fused one as one more at the end;
            the (B, n) attention of the class token; and the (B, n) order of the tokens by it.
        """
        heads = block.attn.num_heads
        query, key, value = split_heads(block.attn.qkv(block.norm1(tokens)), 3, heads)
        attention = class_attention_row(query, key).mean(dim=1)
        order = descending(attention)
        needed = order if self.fuse_token else order[:, :count]
        places = torch.cat((torch.zeros_like(needed[:, :1]), needed + 1), dim=1)
        query = query.gather(2, places[:, None, :, None].expand(-1, heads, -1, query.shape[-1]))
        mixed = merge_heads(F.scaled_dot_product_attention(query, key, value))
        tokens = gather_tokens(tokens, places) + block.drop_path(block.attn.proj(mixed))
        if self.fuse_token:
            weights = attention.gather(1, order[:, count:]).unsqueeze(-1).to(tokens.dtype)
            fused = (weights * tokens[:, 1 + count :]).sum(dim=1, keepdim=True)
            tokens = torch.cat((tokens[:, : 1 + count], fused), dim=1)
        return block.feed(tokens), attention, order

    def published_macs(self) -> dict[str, int]:
        """MACs by the authors' arithmetic, counted as fvcore counts (batch 1).

        Theirs has the class attention for nothing, as it forms whole attention matrices; but it attends for tokens
        that are dropped unfused, and normalises all tokens at the end, of which the class token alone is read.
        """
        width, norm = self.num_features, 5 * self.num_features
        tokens = 1 + self.num_patches
        total = self.num_patches * self.patch_embed.proj.weight.numel() + width * self.num_classes
        for layer, block in enumerate(self.blocks):
            total += tokens * (4 * width**2 + 2 * tokens * width + norm)
            if layer in self.counts:
                tokens = 1 + self.counts[layer] + self.fuse_token
            total += tokens * (2 * block.mlp.fc1.weight.numel() + norm)
        return {"full": total + tokens * norm}


def _moved(owner: Tensor, gone: Tensor, into: int) -> Tensor:
    """(B, N) owners, where the (B, n) ids that are gone are now the id ``into``, the highest of all."""
    ids = torch.arange(into + 1, device=owner.device).expand(owner.shape[0], -1)
    return ids.scatter(1, gone, torch.full_like(gone, into)).gather(1, owner)


class EViT(AttentiveViT):
    """Expediting ViTs by token reorganisation (Liang et al., ICLR 2022, arXiv 2202.07800).

    Args:
        keep_rate: share of the tokens present that a shrinking block keeps, a fused one counted as one; a number for
            the blocks after each quarter of the depth but the last (3, 6, 9 of 12), or one for every block, 1 where it
            keeps all.
        fuse_token: the others become one more token, their sum weighted by the class token's attention.
        plain: keywords of :class:`PlainViT`.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, keep_rate: float | Sequence[float] = 0.7, fuse_token: bool = True, **plain: Any) -> None:
        super().__init__(**plain)
        if fuse_token not in (True, False):
            raise KeywordError(f"fuse_token={fuse_token} is neither True nor False", "Give one of the two.")
        self.fuse_token = fuse_token
        self.keep_rates = _rates(keep_rate, len(self.blocks))
        self.counts = self.counts_at(self.keep_rates)

    def counts_at(self, rates: Sequence[float]) -> dict[int, int]:
        """``counts`` at a rate for every block."""
        return self.plan(lambda layer, present: math.ceil(rates[layer] * present))


def _rates(keep_rate: Any, depth: int) -> tuple[float, ...]:
    rates = keep_rate
    if isinstance(keep_rate, int | float):
        rates = tuple(keep_rate if layer in quarters(depth) else 1 for layer in range(depth))
    numbers = isinstance(rates, Sequence) and all(isinstance(rate, int | float) for rate in rates)
    if not numbers or len(rates) != depth or not all(0 < rate <= 1 for rate in rates):
        raise KeywordError(
            f"keep_rate={keep_rate} does not fit {depth} blocks",
            "Give one rate above 0 and at most 1, or one for every block.",
        )
    return tuple(rates)


METHOD = register(
    Method(
        family="EViT",
        network=EViT,
        models=deit_sizes("evit"),
        published={
            "evit_deit_small": (Published(79.5, 3.0, "EViT, README"),),
            "evit_deit_small:keep_rate=0.9": (Published(79.8, 4.0, "EViT, README"),),
            "evit_deit_small:keep_rate=0.8": (Published(79.8, 3.5, "EViT, README"),),
            "evit_deit_small:keep_rate=0.6": (Published(78.9, 2.6, "EViT, README"),),
            "evit_deit_small:keep_rate=0.5": (Published(78.5, 2.3, "EViT, README"),),
            "evit_deit_small:fuse_token=False": (Published(79.4, 3.0, "EViT, README"),),
        },
        training="the cross entropy; the keep rate falls from 1 over the first third of the training",
    )
)
