"""Tests of networks/layers.py."""

from functools import partial

import pytest
import torch
from networks.cases import close, full_class_attention
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn
from torch.nn import functional as F

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.layers import (
    EPS,
    Attention,
    Block,
    PatchEmbedding,
    class_attention_row,
    descending,
    drop_path_rates,
    gather_tokens,
    halve,
    init_weights,
    merge_heads,
    split_heads,
)


@torch.inference_mode()
def test_class_row_is_the_row_of_the_whole_matrix() -> None:
    """The class token's row alone is the row of the softmax over the whole attention matrix."""
    query, key = torch.randn(2, 3, 10, 24).unbind(0)
    (query_heads,), (key_heads,) = split_heads(query, 1, 4), split_heads(key, 1, 4)
    row = class_attention_row(query_heads, key_heads)
    assert row.shape == (3, 4, 9)
    assert close(row, full_class_attention(query, key, num_heads=4), 1e-6)


def test_class_row_is_float32_whatever_the_precision() -> None:
    """In bfloat16 the row is float32, so that near values keep their order."""
    query = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    assert class_attention_row(query, query).dtype == torch.float32


def test_heads_split_and_merge_back() -> None:
    """Merging the heads of each part gives the projection back, part by part."""
    projection = torch.randn(2, 7, 36)
    parts = split_heads(projection, 3, 4)
    assert [part.shape for part in parts] == [(2, 4, 7, 3)] * 3
    assert torch.equal(torch.cat([merge_heads(part) for part in parts], dim=-1), projection)


@torch.inference_mode()
def test_block_is_timms() -> None:
    """A block, with or without the class row, is timm's with the same weights, by timm's own names."""
    block = Block(24, 3, 4.0)
    theirs = TimmBlock(24, 3, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=EPS))
    theirs.load_state_dict(block.state_dict())
    tokens = torch.randn(2, 11, 24)
    assert close(block(tokens), theirs(tokens), 1e-5)
    finished, row = block.with_class_row(tokens)
    assert torch.equal(finished, block(tokens))
    assert row.shape == (2, 3, 10)


@torch.inference_mode()
def test_the_halves_of_a_block_make_the_whole() -> None:
    """Attention's half and then the MLP's are the block."""
    block, tokens = Block(24, 3, 4.0), torch.randn(2, 11, 24)
    assert torch.equal(block.feed(tokens + block.attn(block.norm1(tokens))), block(tokens))


def test_stochastic_depth_acts_in_training_only() -> None:
    """Drop path leaves evaluation alone, and drops whole residuals in training."""
    torch.manual_seed(0)
    block, tokens = Block(24, 3, 4.0, drop_path=0.5), torch.randn(64, 5, 24)
    plain = Block(24, 3, 4.0)
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block.eval()(tokens), plain(tokens))
    unmoved = (block.train()(tokens) == tokens).flatten(1).all(dim=1)
    assert 0 < unmoved.sum() < 64


def test_drop_path_grows_linearly() -> None:
    """The first layer drops nothing, the last one the whole rate."""
    assert drop_path_rates(0.2, 3) == pytest.approx([0.0, 0.1, 0.2])
    assert drop_path_rates(0.0, 2) == [0.0, 0.0]


@torch.inference_mode()
def test_cut_patches_embed_as_the_convolution_does() -> None:
    """Embedding patches that were cut out beforehand is the strided convolution of the image."""
    embed = PatchEmbedding(32, 8, 3, 24)
    image = torch.randn(2, 3, 32, 32)
    patches = image.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(2, 16, -1)
    assert close(embed.embed_patches(patches), embed(image), 1e-5)


@pytest.mark.parametrize(("image", "patch"), [(100, 16), (8, 16), (0, 16), (32, 0)])
def test_images_that_cannot_be_cut_are_refused(image: int, patch: int) -> None:
    """A side that is no multiple of the patch is refused with both numbers named."""
    with pytest.raises(KeywordError, match=f"images of {image} pixels a side cannot be cut into patches of {patch}"):
        PatchEmbedding(image, patch, 3, 24)


@pytest.mark.parametrize(("dim", "heads"), [(25, 3), (24, 0), (24, -2), (0, 3)])
def test_widths_that_heads_do_not_divide_are_refused(dim: int, heads: int) -> None:
    """A width that cannot be split evenly is refused with both numbers named."""
    with pytest.raises(KeywordError, match=f"embed_dim={dim} cannot be split over num_heads={heads}"):
        Attention(dim, heads)


def test_gathered_tokens_are_the_indexed_ones() -> None:
    """Each row's tokens are taken in the order of its indices."""
    tokens, index = torch.randn(2, 5, 3), torch.tensor([[4, 0], [1, 1]])
    assert torch.equal(gather_tokens(tokens, index), torch.stack([tokens[0, [4, 0]], tokens[1, [1, 1]]]))


def test_descending_ranks_each_row() -> None:
    """Indices from the largest value of a row down."""
    assert descending(torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, 4.0]])).tolist() == [[1, 2, 0], [2, 0, 1]]


def test_initialisation() -> None:
    """Linear layers start with small weights and no bias, norms as the identity."""
    torch.manual_seed(0)
    block = Block(48, 3, 4.0).apply(init_weights)
    assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not block.attn.qkv.bias.any()
    assert bool((block.norm1.weight == 1).all())
    assert nn.Linear(3, 3, bias=False).apply(init_weights).bias is None


@pytest.mark.parametrize("side", [1, 2, 7, 112])
def test_halving_is_bilinear_interpolation(side: int) -> None:
    """PyTorch's own, with aligned corners; in bfloat16 as exact as bfloat16 can hold."""
    images = torch.rand(2, 3, 2 * side, 2 * side)
    expected = F.interpolate(images, size=side, mode="bilinear", align_corners=True)
    assert close(halve(images), expected, 1e-4)
    assert close(halve(images.bfloat16()).float(), expected, 8e-3)
