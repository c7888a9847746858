"""Controls, not methods: DynamicViT's numbers of tokens without its choice, which any method of pruning has to beat."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lfvit_cli.networks.layers import gather_tokens
from lfvit_cli.networks.method import Method, deit_sizes, register
from lfvit_cli.networks.token_schedule import ScheduledViT
from lfvit_cli.networks.traces import Tokens

# The largest prime below 2^31: products of two numbers below it are exact in 64 bits.
PRIME = 2**31 - 1
STRIDE = 4


def scramble(numbers: Tensor) -> Tensor:
    """Integers to their fifth powers modulo a prime: all different where the numbers are, in no evident order."""
    squares = numbers * numbers % PRIME
    return squares * squares % PRIME * numbers % PRIME


def _numbers(count: int) -> Tensor:
    # From a million on, as fifth powers of small numbers are small, and blank images have a small seed.
    return scramble(torch.arange(10**6, 10**6 + count, device="cpu"))


class ImageShuffle(nn.Module):
    """An order of the patches that is drawn at random, but from the image alone.

    All of it is integer arithmetic, so that an image has one order in any batch, on any device, eager or compiled.

    Args:
        pixels: values of an image that take part: of every fourth row and column.
        patches: N.
    """

    weights: Tensor
    places: Tensor

    def __init__(self, pixels: int, patches: int) -> None:
        super().__init__()
        self.register_buffer("weights", _numbers(pixels), persistent=False)
        self.register_buffer("places", _numbers(patches), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images to (B, N) patches in their drawn order.

        Pixels, rounded to 1/1024, are summed up with a weight for each place: that is the image's seed. The patches
        come in the order of the scrambled sum of the seed and a number of their own.
        """
        pixels = (images[:, :, ::STRIDE, ::STRIDE].float() * 1024).round().long().flatten(1)
        seed = (pixels * self.weights % PRIME).sum(dim=1, keepdim=True)
        return scramble((seed + self.places) % PRIME).argsort(dim=1)


class RandomViT(ScheduledViT):
    """Patches dropped at random; what one reduction drops stays dropped, so one order of the patches serves them all.

    Args:
        scheduled: keywords of :class:`ScheduledViT`, as DynamicViT's.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, **scheduled: Any) -> None:
        super().__init__(**scheduled)
        channels, side = self.patch_embed.proj.in_channels, math.ceil(self.image_size / STRIDE)
        self.shuffle = ImageShuffle(channels * side**2, self.num_patches)

    def begin(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) images to (B, 1 + N, C) tokens in the drawn order, and the (B, N) patches they stand for."""
        tokens, patches = self.embed(images), self.shuffle(images)
        return torch.cat((tokens[:, :1], gather_tokens(tokens, patches + 1)), dim=1), patches

    def reduce(self, pruning: int, tokens: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Drop whatever comes last."""
        count = self.kept_counts[pruning]
        return tokens[:, : 1 + count], patches[:, :count]


class GroupMean(nn.Module):
    """Means of neighbouring tokens: token p of n, in raster order, goes into the new token floor(p * m / n) of m.

    Args:
        before: n.
        after: m, at most n; new tokens are means of floor(n / m) or ceil(n / m) old ones.
    """

    members: Tensor
    shares: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        first = torch.tensor([math.ceil(group * before / after) for group in range(after + 1)], device="cpu")
        sizes = first.diff().unsqueeze(1)
        seats = torch.arange(math.ceil(before / after), device="cpu")
        self.before, self.after = before, after
        self.register_buffer("members", (first[:-1, None] + seats).clamp(max=before - 1), persistent=False)
        self.register_buffer("shares", ((seats < sizes) / sizes).unsqueeze(-1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, C) to (B, m, C)."""
        return (tokens[:, self.members] * self.shares.to(tokens.dtype)).sum(dim=2)


class PoolViT(ScheduledViT):
    """Patches averaged with their neighbours in raster order, with no regard to what they show.

    Args:
        scheduled: keywords of :class:`ScheduledViT`, as DynamicViT's.

    Raises:
        KeywordError: values that describe no network.
    """

    def __init__(self, **scheduled: Any) -> None:
        super().__init__(**scheduled)
        before = (self.num_patches, *self.kept_counts)
        self.means = nn.ModuleList(GroupMean(*counts) for counts in zip(before, self.kept_counts, strict=False))

    def reduce(self, pruning: int, tokens: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Average neighbours; here, ``patches`` are the (B, N) tokens that the patches have gone into."""
        mean: Any = self.means[pruning]
        return torch.cat((tokens[:, :1], mean(tokens[:, 1:])), dim=1), patches * mean.after // mean.before

    def trace(self, patches: Tensor, name: str) -> Tokens:
        """The token that each patch has gone into."""
        return Tokens(patches.unflatten(1, self.grid), name)


RANDOM = register(
    Method(
        family="Random control",
        network=RandomViT,
        models=deit_sizes("random"),
        training="the cross entropy",
        note="a control: as many tokens as DynamicViT, dropped at random, by a draw that depends on the image alone",
    )
)
POOL = register(
    Method(
        family="Pooling control",
        network=PoolViT,
        models=deit_sizes("pool"),
        training="the cross entropy",
        note="a control: as many tokens as DynamicViT, each the mean of neighbours in raster order",
    )
)
