"""ToMe: every block merges the pairs of tokens whose keys are most alike."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import descending, gather_tokens, merge_heads, split_heads
from lfvit_cli.networks.method import Method, Published, register
from lfvit_cli.networks.stages import Output, Stage
from lfvit_cli.networks.timm_vit import SUPPORTED, TimmViT
from lfvit_cli.networks.traces import Tokens, Trace

INFLECT = "inflect"


class ToMe(TimmViT):
    """Token merging (Bolya et al., ICLR 2023, arXiv 2210.09461) on a vision transformer of timm's, under its own keys.

    Args:
        backbone: name of a plain vision transformer of timm's with a class token.
        r: pairs merged in every block; or a number for each of the first blocks; or, with ``schedule``, a pair (r, i).
        schedule: ``inflect`` reads ``r`` as a pair: r on average, and i from -1 (falling to 0) to 1 (rising from 0).
        prop_attn: attention counts a merged token as often as the tokens in it.
        given: keywords of the backbone, as timm takes them.

    Raises:
        KeywordError: values that describe no network, or a backbone of another kind, such as with registers.
    """

    def __init__(
        self,
        backbone: str = "deit_small_patch16_224",
        r: int | Sequence[float] = 13,
        schedule: str | None = None,
        prop_attn: bool = True,
        **given: Any,
    ) -> None:
        super().__init__(backbone, **given)
        if self.num_prefix_tokens != 1:
            raise KeywordError(f"backbone={backbone} has registers, which would be merged", SUPPORTED)
        if self.global_pool != "token":
            raise KeywordError(f"backbone={backbone} does not answer from the class token alone", SUPPORTED)
        if not all(type(block.attn) is Attention and not getattr(block.attn, "gate", None) for block in self.blocks):
            raise KeywordError(f"backbone={backbone} has other attention than the usual", SUPPORTED)
        if not isinstance(prop_attn, bool):
            raise KeywordError(f"prop_attn={prop_attn} is neither True nor False", "Give one of them.")
        self.merges = merges_per_block(r, schedule, len(self.blocks))
        self.prop_attn = prop_attn

    def stages(self) -> tuple[Stage, ...]:
        """One stage."""
        return (Stage("full", self.answer),)

    def answer(self, images: Tensor, _: None = None) -> Output:
        """(B, 3, S, S) normalised images to logits, and the token that each patch is in after each merging block."""
        tokens = self.embed(images)
        # For every original token, the place of the token that it is in; and how many are in each.
        place = torch.arange(tokens.shape[1], device=images.device).expand(tokens.shape[0], -1)
        size: Tensor | None = None
        traces = list[Trace]()
        for layer, block in enumerate(self.blocks):
            tokens, keys = self._attend(block, tokens, size)
            count = min(self.merges[layer], (tokens.shape[1] - 1) // 2)
            if count > 0:
                moved, kept, partner = match(keys, count)
                size = tokens.new_ones(tokens.shape[:2]) if size is None else size
                tokens, size, new_place = merge(tokens, size, moved, kept, partner)
                place = new_place.gather(1, place)
                traces.append(Tokens(place[:, 1:].unflatten(1, self.patch_embed.grid_size), f"layer {layer}"))
            tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
        return Output(self.forward_head(self.norm(tokens)), traces=tuple(traces))

    def _attend(self, block: Block, tokens: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
        """The attention half of a block: (B, n, C) to the same, and the (B, n, d) keys' mean over heads."""
        attention: Any = block.attn
        query, key, value = split_heads(attention.qkv(block.norm1(tokens)), 3, attention.num_heads)
        query, mean_key = attention.q_norm(query), key.mean(dim=1)
        key = attention.k_norm(key)
        bias = None if size is None or not self.prop_attn else size.log()[:, None, None, :].to(query.dtype)
        dropout = attention.attn_drop.p if self.training else 0.0
        mixed = merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout))
        mixed = attention.proj_drop(attention.proj(attention.norm(mixed)))
        return tokens + block.drop_path1(block.ls1(mixed)), mean_key

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, K) logits."""
        return self.answer(images).logits


@torch.no_grad()
def match(keys: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bipartite soft matching: tokens at even places (A) look for their most alike at odd places (B).

    Args:
        keys: (B, n, d); the class token, at place 0, never merges.
        count: pairs to merge.

    Returns:
        Indices into A of the (B, r) tokens that move and of the (B, a - r) that stay, in rising place; and the index
        into B of each moving token's partner (B, r).
    """
    metric = keys / keys.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)
    best, partner = scores.max(dim=-1)
    is_class = torch.arange(best.shape[1], device=best.device) == 0
    order = descending(best.masked_fill(is_class, -torch.inf))
    moved = order[:, :count]
    return moved, order[:, count:].sort(dim=1).values, partner.gather(1, moved)


def merge(tokens: Tensor, size: Tensor, moved: Tensor, kept: Tensor, partner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merge tokens into their partners, by means weighted by size.

    Args:
        tokens: (B, n, C).
        size: (B, n) tokens in each.
        moved: as :func:`match` gives them; likewise what follows.
        kept: that stay in A.
        partner: in B.

    Returns:
        The (B, n - r, C) tokens, those that stay in A before all of B; their (B, n - r) sizes; and the new place of
        every one of the (B, n) old tokens.
    """
    weighed = tokens * size.unsqueeze(-1)
    first, second = weighed[:, ::2], weighed[:, 1::2]
    first_size, second_size = size[:, ::2], size[:, 1::2]
    target = partner.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    second = second.scatter_add(1, target, gather_tokens(first, moved))
    second_size = second_size.scatter_add(1, partner, first_size.gather(1, moved))
    sums = torch.cat((gather_tokens(first, kept), second), dim=1)
    sizes = torch.cat((first_size.gather(1, kept), second_size), dim=1)
    place = torch.empty(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    behind = kept.shape[1]
    rank = torch.arange(behind, device=tokens.device).expand_as(kept)
    place = place.scatter(1, 2 * kept, rank).scatter(1, 2 * moved, partner + behind)
    odd = torch.arange(second.shape[1], device=tokens.device).expand(tokens.shape[0], -1)
    return sums / sizes.unsqueeze(-1), sizes, place.scatter(1, 2 * odd + 1, odd + behind)


def merges_per_block(r: Any, schedule: str | None, depth: int) -> tuple[int, ...]:
    """Pairs that every block merges.

    Raises:
        KeywordError: no such schedule, or numbers that are none of it.
    """
    if schedule not in (None, INFLECT):
        raise KeywordError(f"schedule={schedule} is not a schedule", f"Leave it out, or give {INFLECT}.")
    if isinstance(r, int) and not isinstance(r, bool) and r >= 0 and schedule is None:
        return (r,) * depth
    numbers = tuple(r) if isinstance(r, Sequence) and all(isinstance(each, int | float) for each in r) else ()
    if schedule == INFLECT and len(numbers) == 2 and numbers[0] >= 0 and -1 <= numbers[1] <= 1:
        low = int(numbers[0] * (1 - numbers[1]))
        high = int(2 * numbers[0] - low)
        return tuple(int(low + (high - low) * block / max(1, depth - 1)) for block in range(depth))
    if schedule is None and 0 < len(numbers) <= depth and all(isinstance(each, int) and each >= 0 for each in numbers):
        return (*map(int, numbers), *(0,) * (depth - len(numbers)))
    raise KeywordError(
        f"r={r} does not say how many tokens {depth} blocks merge",
        f"Give a number, one for each block, or with schedule={INFLECT} a pair such as (13,-1).",
    )


METHOD = register(
    Method(
        family="ToMe",
        network=ToMe,
        models={
            "tome_deit_tiny": {"backbone": "deit_tiny_patch16_224"},
            "tome_deit_small": {"backbone": "deit_small_patch16_224"},
            "tome_deit_base": {"backbone": "deit_base_patch16_224"},
            "tome": {},
        },
        published={"tome_deit_small": (Published(79.4, 2.7, "ToMe, Table 4, trained with r=13"),)},
        training="needs none: it runs with a plain DeiT's weights; the cross entropy if trained all the same",
    )
)
