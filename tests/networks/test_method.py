"""Tests of networks/method.py: every method is registered with timm, and says what a reader must know."""

from typing import Any

import pytest
import timm
import torch

from lfvit_cli.networks.method import Method, default_criterion, method_of, methods
from lfvit_cli.networks.stages import stage_names
from lfvit_cli.policies import Criterion

OURS = [method for method in methods() if method.network is not None]
NAMES = [name for method in OURS for name in method.models]


def test_no_two_methods_share_a_name_or_a_family() -> None:
    """Every name is of one method."""
    everything = [name for method in methods() for name in method.models]
    assert len(set(everything)) == len(everything)
    families = [method.family for method in methods()]
    assert len(set(families)) == len(families)


@pytest.mark.parametrize("name", NAMES)
def test_timm_creates_every_name(name: str) -> None:
    """With the number of classes asked for, and the size of its images in its configuration."""
    with torch.device("meta"):
        network: Any = timm.create_model(name, num_classes=7)
    assert network.num_classes == 7
    assert network.pretrained_cfg["input_size"][1:] == (network.image_size,) * 2
    assert stage_names(network)


@pytest.mark.parametrize("method", OURS, ids=lambda method: method.family)
def test_published_variants_are_of_its_own_names(method: Method) -> None:
    """Each published figure belongs to a name, or a name with keywords, that the catalogue lists."""
    assert set(method.published) <= set(method.specs)


@pytest.mark.parametrize("method", OURS, ids=lambda method: method.family)
def test_pretrained_weights_are_not_promised(method: Method) -> None:
    """Asked for pretrained weights, timm refuses instead of handing out random ones."""
    name = next(iter(method.models))
    with pytest.raises(RuntimeError, match=name):
        timm.create_model(name, pretrained=True)


def test_evaluation_settings_follow_the_image_size() -> None:
    """A network's settings name the image size it was built for, and building one leaves the next alone."""
    with torch.device("meta"):
        large, plain = (timm.create_model("lf_deit_tiny", location_grid=grid) for grid in (9, 7))
    assert large.pretrained_cfg["input_size"] == (3, 288, 288)
    assert plain.pretrained_cfg["input_size"] == (3, 224, 224)
    assert (plain.pretrained_cfg["crop_pct"], plain.pretrained_cfg["interpolation"]) == (0.875, "bicubic")


def test_a_spec_has_its_methods_criterion() -> None:
    """With or without keywords; the confidence where no method says another."""
    assert default_criterion("lf_deit_small:location_grid=9") is Criterion.CONFIDENCE
    assert default_criterion("resnet18") is Criterion.CONFIDENCE
    method = method_of("lf_deit_small")
    assert method is not None
    assert method.policy is not None
    assert method.policy.thresholds == (0.76,)
