"""Tests of catalogue.py."""

import pytest
import torch

from lfvit_cli.catalogue import CATALOGUE, DEIT, DYNAMIC_VIT, EVO_VIT, LF_VIT, REFERENCE, SMALL, Entry, find
from lfvit_cli.networks.build import build
from lfvit_cli.networks.dynamic_vit import DynamicViT
from lfvit_cli.networks.evo_vit import EvoViT
from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.registry import NAMES
from lfvit_cli.networks.staged import SingleStage, StagedNetwork

CLASSES = {LF_VIT: LFViT, DEIT: SingleStage, DYNAMIC_VIT: DynamicViT, EVO_VIT: EvoViT}


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.spec)
def test_every_entry_builds(entry: Entry) -> None:
    """Each spec builds the family's network, of the stages that the family has."""
    with torch.device("meta"):
        network = build(entry.spec)
    assert type(network) is CLASSES[entry.family]
    assert isinstance(network, StagedNetwork)
    assert network.stages == (("location", "focus") if entry.family == LF_VIT else ("full",))
    assert not network.training


def test_every_registered_network_is_in_the_catalogue_once() -> None:
    """No network is left out, and no spec appears twice."""
    specs = [entry.spec for entry in CATALOGUE]
    assert set(NAMES) <= set(specs)
    assert len(set(specs)) == len(specs)


def test_the_compared_four_are_one_of_each_family() -> None:
    """The commands' default models are catalogue entries, one a family, the reference among them."""
    families = [entry.family for spec in SMALL for entry in CATALOGUE if entry.spec == spec]
    assert sorted(families) == sorted(CLASSES)
    assert REFERENCE in SMALL


def test_published_figures_are_plausible_and_sourced() -> None:
    """Accuracies are per cents, costs at most DeiT-B's, and each figure says where it stands."""
    figures = [figure for entry in CATALOGUE for figure in entry.published]
    assert figures
    assert all(70 < figure.top1 < 85 for figure in figures)
    assert all(figure.gmacs is None or 1 < figure.gmacs < 17.6 for figure in figures)
    assert all(figure.source for figure in figures)


@pytest.mark.parametrize(
    ("pattern", "specs"),
    [
        ("evo_*", ["evo_deit_tiny_patch16_224", "evo_deit_small_patch16_224", "evo_deit_base_patch16_224"]),
        ("lf_deit_small", ["lf_deit_small"]),
        ("*location_grid=9", ["lf_deit_small:location_grid=9"]),
        ("LF_*", []),
    ],
)
def test_find(pattern: str, specs: list[str]) -> None:
    """A shell pattern finds specs, in the catalogue's order; nothing matches the wrong case."""
    assert [entry.spec for entry in find(pattern)] == specs


def test_find_without_a_pattern_is_the_catalogue() -> None:
    """No pattern, no filter."""
    assert tuple(find()) == CATALOGUE
