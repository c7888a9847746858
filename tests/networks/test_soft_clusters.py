"""Tests of networks/soft_clusters.py."""

from typing import Any

import pytest
import timm
import torch
from networks.cases import close, golden_case, images, narrow
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.soft_clusters import PatchMerger, Sinkhorn, SiT

CASES = ("patch_merger_07", "sit_07", "sinkhorn_07", "sinkhorn_07_sharp")
PATCHES = images(2, 16).reshape(2, 32, 24)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_golden_weights(name: str) -> None:
    """What the first three new tokens are made of is the released implementation's, at each clustering."""
    case = golden_case(name)
    network = case.network()
    weights: list[Tensor] = []
    for layer in network.cluster_layers:
        layer.register_forward_hook(lambda layer, args, _: weights.append(layer.mix(args[0])[0]))
    network(case.images)
    for block, found in zip((3, 6, 9), weights, strict=True):
        assert close(found[:, :3], case.expected[f"soft_assignment_{block}_first3"], 3e-6)


@torch.inference_mode()
def test_owner_is_where_the_weight_is_largest() -> None:
    """A patch belongs to the new token that it contributes most to."""
    layer = PatchMerger(24, 5)
    weights, features = layer.mix(PATCHES)
    tokens, owner = layer(PATCHES)
    assert torch.equal(tokens, weights @ features)
    for row in range(2):
        for patch in range(32):
            assert weights[row, owner[row, patch], patch] == weights[row, :, patch].max()


@torch.inference_mode()
def test_weights_sum_to_one() -> None:
    """PatchMerger's and SiT's new tokens are means of the patches."""
    for layer in (PatchMerger(24, 5), SiT(24, 5)):
        weights, _ = layer.mix(PATCHES)
        assert weights.shape == (2, 5, 32)
        assert close(weights.sum(dim=-1), torch.ones(2, 5), 1e-6)


@torch.inference_mode()
def test_sinkhorn_by_hand() -> None:
    """Three rounds that scale the rows, then the columns, of exp(cosine / eps) in plain numbers."""
    layer = Sinkhorn(24, 5, eps=0.5, iterations=3)
    points = PATCHES / PATCHES.norm(dim=-1, keepdim=True)
    directions = layer.v / layer.v.norm(dim=-1, keepdim=True)
    kernel = (directions @ points.transpose(1, 2) / 0.5).exp()
    columns = torch.ones(2, 1, 32)
    for _ in range(3):
        rows = 1 / 37 / (kernel * columns).sum(dim=2, keepdim=True)
        columns = 1 / 37 / (kernel * rows).sum(dim=1, keepdim=True)
    weights, features = layer.mix(PATCHES)
    assert close(weights, 37 * rows * kernel * columns, 1e-6)
    assert close(features, points, 1e-6)
    # The columns were scaled last; it is the unscaled directions that training keeps.
    assert close(weights.sum(dim=1), torch.ones(2, 32), 1e-5)
    assert not close(layer.v, directions, 1e-3)


def test_published_sinkhorn() -> None:
    """Logits at eps 1 do not pin the iterations: there are three."""
    layers: list[Any] = list(narrow("sinkhorn_deit_tiny", img_size=64).cluster_layers)
    assert [(layer.eps, layer.iterations) for layer in layers] == [(1.0, 3)] * 3


@pytest.mark.parametrize(
    ("keywords", "words"),
    [({"sinkhorn_eps": 0.0}, "above 0"), ({"sinkhorn_eps": -1.0}, "above 0"), ({"cluster_iters": 0}, "at least 1")],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("sinkhorn_deit_tiny", **keywords)
