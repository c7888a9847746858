"""Tests of networks/stvit.py, against a plain reading of it, as there are no figures of the authors' for DeiT."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, images, narrow
from networks.owners import reductions
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.method import method_of

POOLINGS = ("window", "mean", "max")


def pooled_by_hand(network: Any, pooling: str, patches: Tensor) -> Tensor:
    """(B, 196, C) patches to (B, 16, C), window by window."""
    grid = F.pad(patches.unflatten(1, (14, 14)).permute(0, 3, 1, 2), (1, 1, 1, 1))
    inside = F.pad(torch.ones(14, 14), (1, 1, 1, 1)).bool()
    if pooling == "window":
        pool = network.pool
        context = F.conv2d(grid, pool.depthwise.weight, pool.depthwise.bias, padding=1, groups=grid.shape[1])
        scores = pool.score(F.gelu(pool.norm(context.permute(0, 2, 3, 1))))[..., 0]
        scores = scores.masked_fill(~inside, -100)
    tokens = []
    for row in range(0, 16, 4):
        for column in range(0, 16, 4):
            down, across = slice(row, row + 4), slice(column, column + 4)
            cells = grid[:, :, down, across].flatten(2)
            real = cells[:, :, inside[down, across].flatten()]
            if pooling == "window":
                weights = scores[:, down, across].flatten(1).softmax(dim=1)
                tokens.append((cells * weights.unsqueeze(1)).sum(dim=2))
            else:
                tokens.append(real.mean(dim=2) if pooling == "mean" else real.amax(dim=2))
    return torch.stack(tokens, dim=1)


def attended_by_hand(block: Any, tokens: Tensor, seen: Tensor) -> Tensor:
    """The scaled attention branch, by PyTorch's own multi-head attention."""
    attention, width = block.attn, tokens.shape[-1]
    tokens, seen = block.norm1(tokens), block.norm1(seen)
    weight = torch.cat((attention.q.weight, attention.kv.weight))
    bias = torch.cat((attention.q.bias, attention.kv.bias))
    mixed, _ = F.multi_head_attention_forward(
        tokens.transpose(0, 1), seen.transpose(0, 1), seen.transpose(0, 1), width, 3, weight, bias, None, None, False,
        0.0, attention.proj.weight, attention.proj.bias, training=False, need_weights=False,
    )  # fmt: skip
    scaled: Tensor = block.layer_scale_1 * mixed.transpose(0, 1)
    return scaled


def by_hand(network: Any, pooling: str, batch: Tensor) -> Tensor:
    """(B, K) logits, layer by layer."""
    patches = network.patch_embed(batch) + network.pos_embed
    for block in network.blocks[:4]:
        patches = block(patches)
    first, second = network.blocks[4:6]
    tokens = attended_by_hand(first, pooled_by_hand(network, pooling, patches), patches)
    tokens = tokens + first.layer_scale_2 * first.mlp(first.norm2(tokens))
    seen = torch.cat((tokens, patches), dim=1)
    tokens = tokens + network.semantic_token2
    tokens = tokens + attended_by_hand(second, tokens, seen)
    tokens = tokens + second.layer_scale_2 * second.mlp(second.norm2(tokens))
    for block in network.blocks[6:]:
        tokens = block(tokens)
    logits: Tensor = network.head(network.norm(tokens).mean(dim=1))
    return logits


@pytest.mark.parametrize("pooling", POOLINGS)
@torch.inference_mode()
def test_answers_as_by_hand(pooling: str) -> None:
    """Every way of pooling, with windows of the padded 14 x 14 grid."""
    network, batch = narrow("stvit_deit_tiny", pooling=pooling), images(2, 224)
    assert agree(network(batch), by_hand(network, pooling, batch))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_small_macs(pooling: str) -> None:
    """All ways of pooling cost the published 1.91 G, to all digits that are given."""
    (row,) = count_stages("", timm.create_model("stvit_deit_small", pooling=pooling).eval())
    assert f"{row.macs / 1e9:.2f}" == "1.91"
    assert row.tokens_per_layer == (196,) * 4 + (16,) * 8


@torch.inference_mode()
def test_trace_shows_the_windows() -> None:
    """Patches of a window share an owner: 3, 4, 4 and 3 of the 14 down, and as many across."""
    (trace,) = reductions(narrow("stvit_deit_tiny").answer(images(2, 224)))
    window = torch.tensor([0] * 3 + [1] * 4 + [2] * 4 + [3] * 3)
    assert torch.equal(trace.owner, (4 * window.unsqueeze(1) + window).expand(2, -1, -1))
    assert trace.name == "layer 4"


@torch.inference_mode()
def test_padding_has_no_weight() -> None:
    """What the padded cells hold changes no token: with all patches alike, their weighted mean is any of them."""
    network = narrow("stvit_deit_tiny")
    patch = torch.randn(24)
    assert close(network.pool(patch.expand(1, 196, 24)), patch.expand(1, 16, 24), 1e-5)


def test_starts_from_a_plain_vit() -> None:
    """A DeiT's parameters fill all but what it lacks, in their own places, and no branch is scaled down."""
    network = narrow("stvit_deit_tiny", img_size=64)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5)
    method = method_of("stvit_deit_tiny")
    assert method is not None
    assert method.from_vit is not None
    state = method.from_vit(network, plain.state_dict())
    outcome = network.load_state_dict(state, strict=False)
    assert not outcome.unexpected_keys
    assert {key.partition(".")[0] for key in outcome.missing_keys} == {"pool", "semantic_token2"}
    assert torch.equal(network.pos_embed, plain.pos_embed[:, 1:])
    first = network.blocks[4]
    assert torch.equal(torch.cat((first.attn.q.weight, first.attn.kv.weight)), plain.blocks[4].attn.qkv.weight)
    assert torch.equal(first.layer_scale_1, torch.ones(24))


@torch.inference_mode()
def test_its_own_files(tmp_path: Path) -> None:
    """A file of its own loads back, and is known by its key; branches start near zero, as on Swin."""
    network = narrow("stvit_deit_tiny", img_size=64)
    torch.save({"model": network.state_dict()}, tmp_path / "own.pth")
    again = timm.create_model("stvit_deit_tiny", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    assert bool((again.blocks[5].layer_scale_2 == 1e-5).all())
    load_checkpoint(again, str(tmp_path / "own.pth"))
    assert torch.equal(again(images(1, 64)), network(images(1, 64)))
    method = method_of("stvit_deit_tiny")
    assert method is not None
    assert method.checkpoint_key in network.state_dict()
    assert "reconstruction" in method.note


def test_eps_of_every_norm() -> None:
    """All norms have DeiT's 1e-6."""
    norms = [each for each in narrow("stvit_deit_tiny").modules() if isinstance(each, nn.LayerNorm)]
    assert len(norms) == 26
    assert {each.eps for each in norms} == {1e-6}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"pooling": "median"}, "Use one of window, mean, max"),
        ({"depth": 2}, "at least 3"),
        ({"img_size": 80}, "5 x 5 patches"),
        ({"img_size": 32}, "2 x 2 patches"),
        ({"img_size": 100}, "images of 100 pixels"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("stvit_deit_tiny", **keywords)
