"""Tests of networks/watching.py."""

import torch
from torch import nn
from torch.nn import functional as F

from lfvit_cli.networks.watching import Watching, count_read


@torch.no_grad()
def test_only_the_values_that_are_read_count() -> None:
    """Of a slice, its own; of overlapping slices, all once; of an expanded one, one; of a shape or a view, none."""
    linear, token, unread = nn.Linear(6, 4), nn.Parameter(torch.ones(1, 1, 6)), nn.Parameter(torch.ones(5))
    with Watching() as first:
        F.linear(torch.ones(1, 3), linear.weight[:2, :3])
    with Watching() as second:
        F.linear(torch.ones(1, 3), linear.weight[1:3, :3], linear.bias[1:3])
        token.expand(8, -1, -1) + 1
        assert unread.shape == unread.view(5, 1)[:, 0].shape
    assert count_read(first) == 2 * 3
    assert count_read(second) == 2 * 3 + 2 + 6
    assert count_read(first, second) == 3 * 3 + 2 + 6


@torch.no_grad()
def test_queries_of_attention_are_its_tokens() -> None:
    """Fused or not, in the order of the calls; neither a class token's row nor a choice is a layer of attention."""
    keys = torch.ones(1, 2, 9, 4)
    with Watching() as seen:
        for count in (7, 3):
            F.scaled_dot_product_attention(torch.ones(1, 2, count, 4), keys, keys)
        for count in (5, 1):
            (torch.ones(1, 2, count, 4) @ keys.transpose(-2, -1)).softmax(dim=-1)
        torch.softmax(torch.ones(1, 9, 3, 2), dim=-1)
    assert seen.tokens == [7, 3, 5]
