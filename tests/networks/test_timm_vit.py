"""Tests of networks/timm_vit.py: any plain vision transformer of timm's as a frame."""

import copy
from typing import Any

import pytest
import timm
import torch
from networks.cases import NARROW, images

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.timm_vit import TimmViT

# Registers, a position embedding of patches alone, layer scale; and a norm before the blocks.
BACKBONES = (
    "deit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "deit3_small_patch16_224",
    "vit_base_patch32_clip_224",
)


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.inference_mode()
def test_it_is_the_backbone(backbone: str) -> None:
    """It has the parameters of timm's network and answers as it, block by block, as do its copies."""
    side = 28 if "patch14" in backbone else 32
    keywords = {"depth": 2, "img_size": side, **NARROW}
    plain: Any = timm.create_model(backbone, **keywords).eval()
    network = TimmViT(backbone, **keywords).eval()
    network.load_state_dict(plain.state_dict())
    batch = images(2, side)
    assert torch.equal(network(batch), plain(batch))
    tokens = network.embed(batch)
    for block in network.blocks:
        tokens = block(tokens)
    assert torch.equal(network.forward_head(network.norm(tokens)), plain(batch))
    assert torch.equal(copy.deepcopy(network)(batch), plain(batch))
    assert network.image_size == side
    undecayed = network.no_weight_decay()
    assert {"cls_token", "pos_embed"} <= undecayed < {name for name, _ in network.named_parameters()}


def test_images_are_prepared_as_for_the_backbone() -> None:
    """Whatever is said of the network later, mean, deviation, interpolation and crop stay those of the backbone."""
    network = TimmViT("vit_tiny_patch16_224", depth=1)
    own = timm.get_pretrained_cfg("vit_tiny_patch16_224").to_dict()
    network.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "architecture": "another"}
    assert network.pretrained_cfg["mean"] == own["mean"] == (0.5, 0.5, 0.5)
    assert network.pretrained_cfg["crop_pct"] == own["crop_pct"]
    assert network.pretrained_cfg["architecture"] == "another"


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("lf_deit_small", "not a plain vision transformer"),
        ("deit_tiny_distilled_patch16_224", "not a plain vision transformer"),
        ("vit_small_patch16_18x2_224", "not a plain vision transformer"),
        ("vit_base_patch16_siglip_224", "not a plain vision transformer"),
        ("resnet18", "not a plain vision transformer"),
        ("no_such_network", "such as deit_tiny_patch16_224"),
        ("deit_tiny_patch16_224.no_such_weights", "no_such_weights"),
        (5, "backbone=5"),
    ],
)
def test_other_backbones_are_refused(backbone: Any, words: str) -> None:
    """Each by its name, with what is supported."""
    with pytest.raises(KeywordError, match=words), torch.device("meta"):
        TimmViT(backbone)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"img_size": (64, 32)}, "square"),
        ({"num_heads": 5}, "num_heads"),
        ({"class_token": False, "global_pool": "avg"}, "class token"),
        ({"depths": 3}, "depths"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        TimmViT(**{**NARROW, **keywords})
