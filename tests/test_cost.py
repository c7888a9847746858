"""Costs agree with published figures, with a formula derived by hand and with PyTorch's own counter."""

from pathlib import Path

import pytest
import torch
from golden.golden import load_case
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lfvit_cli.cost import StageCost, count_stages, expected_cost, expected_macs
from lfvit_cli.networks.build import build, image_size
from lfvit_cli.networks.plugins import load_methods
from lfvit_cli.networks.stages import stages_of

SMALL = ["lf_deit_small", "deit_small_patch16_224", "dynamicvit_deit_small", "evo_deit_small_patch16_224"]


@pytest.fixture(scope="module")
def costs() -> dict[str, list[StageCost]]:
    """The stages of the four small networks, counted once."""
    return {spec: count_stages(spec, build(spec)) for spec in SMALL}


def total(costs: dict[str, list[StageCost]], spec: str) -> int:
    """MACs of all stages."""
    return sum(row.macs for row in costs[spec])


def test_deit_small_follows_from_its_shapes(costs: dict[str, list[StageCost]]) -> None:
    """Patch embedding, 12 blocks, norms at 5 MACs a value and the head: 4.608 G, fused attention counted."""
    tokens, width, hidden, classes = 197, 384, 1536, 1000
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width + 2 * tokens * 5 * width
    # timm normalises all tokens before it takes the class token.
    expected = 196 * 768 * width + 12 * block + tokens * 5 * width + width * classes
    assert total(costs, "deit_small_patch16_224") == expected == 4_608_338_304


@pytest.mark.parametrize(
    ("spec", "gmacs"),
    [("deit_small_patch16_224", 4.608), ("dynamicvit_deit_small", 2.99), ("evo_deit_small_patch16_224", 3.04)],
)
def test_single_stage_networks_cost_what_is_published(
    costs: dict[str, list[StageCost]], spec: str, gmacs: float
) -> None:
    """The papers' figures, to the digits they give."""
    assert total(costs, spec) / 1e9 == pytest.approx(gmacs, abs=0.006)


def test_lf_vit_location_costs_the_published_macs_and_its_class_attention(costs: dict[str, list[StageCost]]) -> None:
    """1,101,957,888 published, and 9 rows of class attention over 50 tokens, and the halved rows and columns."""
    location = costs["lf_deit_small"][0]
    assert location.published_macs == 1_101_957_888
    assert location.macs == location.published_macs + 9 * 50 * 384 + 3 * 112 * (224 + 112)


def test_lf_vit_focus_skips_what_the_published_arithmetic_computes_for_nothing(
    costs: dict[str, list[StageCost]],
) -> None:
    """Unkept fine patches, unkept cells' reuse, and the norm of tokens that the head never reads."""
    location, focus = costs["lf_deit_small"]
    assert focus.published_macs is not None
    assert location.published_macs is not None
    assert location.published_macs + focus.published_macs == 3_810_800_256
    unkept_patches = (196 - 88) * 768 * 384
    unkept_reuse = (49 - 22) * (8 * 384**2 + 5 * 384) + 4 * 49 * 384
    assert focus.published_macs - focus.macs == unkept_patches + unkept_reuse + 115 * 5 * 384
    assert location.macs + focus.macs <= 3_811_000_000


@pytest.mark.parametrize("spec", [*SMALL, "lf_deit_tiny:location_grid=9"])
def test_an_independent_counter_agrees(spec: str, costs: dict[str, list[StageCost]]) -> None:
    """PyTorch counts matrix products only, at dispatch; every stage is within half a per cent."""
    network = build(spec)
    images, state = torch.zeros(1, 3, image_size(network), image_size(network)), None
    for row, stage in zip(costs.get(spec) or count_stages(spec, network), stages_of(network), strict=True):
        # Not every PyTorch counts its fused CPU attention.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            state = stage(images, state)
        assert counter.get_total_flops() / 2 == pytest.approx(row.macs, rel=0.005)


def test_tokens_are_those_of_the_attention_layers(costs: dict[str, list[StageCost]]) -> None:
    """50 and 116 for LF-ViT; fewer after each pruning for the others."""
    assert [row.tokens for row in costs["lf_deit_small"]] == [50, 116]
    assert list(dict.fromkeys(costs["dynamicvit_deit_small"][0].tokens_per_layer)) == [197, 138, 97, 68]
    assert costs["evo_deit_small_patch16_224"][0].tokens_per_layer == (197,) * 4 + (99,) * 8


def test_parameters_are_those_a_stage_reads() -> None:
    """Location reads no reuse block, focus no location positions, and Evo-ViT's class head answers in training only."""
    network = build("lf_deit_tiny")
    location, focus = count_stages("lf_deit_tiny", network)
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    reuse = sum(size for name, size in sizes.items() if name.startswith("reuse_block"))
    assert location.params == sum(sizes.values()) - reuse - sizes["pos_embed_list.1"]
    assert focus.params == sum(sizes.values()) - sizes["pos_embed_list.0"]
    evo = build("evo_deit_tiny_patch16_224")
    unread = sum(p.numel() for name, p in evo.named_parameters() if name.startswith(("head_cls", "norm_cls")))
    assert count_stages("evo", evo)[0].params == sum(p.numel() for p in evo.parameters()) - unread


@pytest.mark.parametrize("name", ["lf_vit_7x7", "lf_vit_9x9", "lf_vit_7x7_m4"])
def test_narrow_networks_cost_their_reference_figures(name: str) -> None:
    """The authors' arithmetic, counted by fvcore on their own code, is what ``published_macs`` gives."""
    case = load_case(name)
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in case["config"].items()}
    spec = "lf_deit_tiny:" + ",".join(f"{key}={value}" for key, value in config.items())
    rows = count_stages(spec, build(spec))
    published = [row.published_macs for row in rows]
    both = case["fvcore_macs"]["both_phases"]
    assert published == [case["fvcore_macs"]["location"], both - case["fvcore_macs"]["location"]]


def test_an_exit_is_weighted_by_who_goes_on(costs: dict[str, list[StageCost]]) -> None:
    """None exit: both stages; all exit: the first alone; 78 % exit: the average of 1.68 G that DeiT-S is 2.73 times."""
    location, focus = costs["lf_deit_small"]
    assert expected_cost([location, focus], 0).macs == location.macs + focus.macs
    assert expected_cost([location, focus], 1).macs == location.macs
    average = expected_cost([location, focus], 0.78)
    assert average.macs == round(location.macs + 0.22 * focus.macs)
    assert total(costs, "deit_small_patch16_224") / average.macs == pytest.approx(2.736, abs=0.001)
    assert average.published_macs is not None
    assert average.published_macs > average.macs


def test_an_exit_after_the_second_of_three_stages_costs_two() -> None:
    """1, then 1.5, then 2 more: of two images that stop after the second stage each costs 2.5, not 1."""
    assert expected_macs([1.0, 1.5, 2.0], [0, 2, 0]) == 2.5
    assert expected_macs([1.0, 1.5, 2.0], [1, 1, 2]) == (1 + 2.5 + 2 * 4.5) / 4
    assert expected_macs([1.0, 1.5, 2.0], [0.25, 0.25, 0.5]) == (1 + 2.5 + 2 * 4.5) / 4
    assert expected_macs([7], [3]) == 7


def test_the_stages_of_an_outside_network_are_counted_apart(exit_vit: Path) -> None:
    """Each of three runs four blocks, by the formula: embedding, 4 blocks, norm, head; and they add up to the whole."""
    load_methods([str(exit_vit)])
    rows = count_stages("exit_vit_small", build("exit_vit_small"))
    block = 197 * (12 * 384**2 + 2 * 197 * 384 + 10 * 384)
    answer = 197 * 5 * 384 + 384 * 1000
    assert [row.macs for row in rows] == [196 * 768 * 384 + 4 * block + answer, *[4 * block + answer] * 2]
    whole = count_stages("deit_small_patch16_224", build("deit_small_patch16_224"))[0]
    assert sum(row.macs for row in rows) - 2 * answer == whole.macs
    assert rows[-1].params_so_far == whole.params + 2 * 385 * 1000
