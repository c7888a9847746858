"""Tests of networks/registry.py."""

from typing import Any

import pytest
import timm
import torch
from running import Run

from lfvit_cli.networks.registry import NAMES, NETWORKS

WIDTHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
# Parameters of DeiT, in millions.
DEIT = {"tiny": 5.717, "small": 22.051, "base": 86.568}


def test_importing_the_package_registers_all_names(run_python: Run) -> None:
    """After ``import lfvit_cli.networks`` timm creates every network by its name, and lists it."""
    program = "import timm, lfvit_cli.networks; print(*timm.list_models(['lf_*', 'dynamicvit_*', 'evo_*']))"
    run = run_python("-c", program)
    assert (run.returncode, sorted(run.stdout.split())) == (0, sorted(NAMES)), run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_names_say_family_and_size(name: str) -> None:
    """The prefix is the class and the size word DeiT's width and heads; the parameters are DeiT's and some more."""
    with torch.device("meta"):
        network: Any = timm.create_model(name)
    (family,) = (network_class for prefix, network_class in NETWORKS.items() if name.startswith(prefix))
    (size,) = (size for size in WIDTHS if size in name)
    assert (network.num_features, network.blocks[0].mlp.fc1.in_features) == (WIDTHS[size][0],) * 2
    heads = getattr(network, "num_heads", None) or network.blocks[0].attn.num_heads
    assert heads == WIDTHS[size][1]
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert DEIT[size] < parameters < 1.15 * DEIT[size]
    assert type(network) is family


def test_evaluation_settings_follow_the_image_size() -> None:
    """A network's settings name the image size it was built for, and building one leaves the next alone."""
    with torch.device("meta"):
        large, plain = (timm.create_model("lf_deit_tiny", location_grid=grid) for grid in (9, 7))
    assert large.pretrained_cfg["input_size"] == (3, 288, 288)
    assert plain.pretrained_cfg["input_size"] == (3, 224, 224)
    assert (plain.pretrained_cfg["crop_pct"], plain.pretrained_cfg["interpolation"]) == (0.875, "bicubic")


@pytest.mark.parametrize("name", ["lf_deit_tiny", "dynamicvit_deit_tiny", "evo_deit_tiny_patch16_224"])
def test_pretrained_weights_are_not_promised(name: str) -> None:
    """Asked for pretrained weights, timm refuses instead of handing out random ones."""
    with pytest.raises(RuntimeError, match=name):
        timm.create_model(name, pretrained=True)
