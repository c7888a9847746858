"""Tests of networks/a_vit.py."""

from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, golden_case, images, narrow
from networks.owners import reductions

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.a_vit import HaltingOutput
from lfvit_cli.networks.traces import Heat

BATCH = images(3, 64)


@torch.inference_mode()
def test_golden_depths() -> None:
    """Every token halts where the reference's does; but once the class token has, the image is not run any further."""
    case = golden_case("a_vit")
    output = case.network().answer(case.images)
    published, of_class = case.expected["token_depth"], case.expected["token_depth"][:, :1]
    assert (published > of_class).any()
    assert torch.equal(output.depth, published.minimum(of_class))
    assert torch.equal(output.attended[:, 0], (published > 0).sum(dim=1))
    assert torch.equal(output.depth.sum(dim=1), output.attended.sum(dim=1))


@torch.inference_mode()
def test_golden_ponder() -> None:
    """In training all tokens run until they halt themselves: their depths, and what remains of their shares."""
    case = golden_case("a_vit")
    output = case.network().train().answer(case.images)
    assert agree(output.logits, case.expected["logits"])
    assert torch.equal(output.depth, case.expected["token_depth"])
    assert close(output.ponder, case.expected["ponder"], 1e-4)


def test_published_macs() -> None:
    """The released network masks and runs all tokens: the golden case's figure, and DeiT-S's."""
    case = golden_case("a_vit")
    assert case.bare_network().published_macs() == {"full": case.macs["total_released_masked"]}
    with torch.device("meta"):
        assert timm.create_model("a_vit_deit_small").published_macs() == {"full": 4_608_338_304}


@torch.inference_mode()
def test_traces_show_depths() -> None:
    """The heat is each patch's depth; a patch is there after a block if it is deeper than that."""
    output: HaltingOutput = narrow("a_vit_deit_tiny", img_size=64, gate_scale=1.0, gate_center=2.0).answer(BATCH)
    depth = output.depth[:, 1:].view(3, 4, 4)
    heat, *_ = output.traces
    assert isinstance(heat, Heat)
    assert torch.equal(heat.values, depth.float())
    traces = reductions(output)
    assert [trace.name for trace in traces] == [f"layer {layer}" for layer in range(11)]
    assert depth.min() < 12
    for layer, trace in enumerate(traces):
        assert torch.equal(trace.owner >= 0, depth > layer + 1)


@torch.inference_mode()
def test_where_nothing_halts_it_is_deit() -> None:
    """Tokens that give nothing before the last block give all of it there."""
    network = narrow("a_vit_deit_tiny", img_size=64, gate_center=1e4)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict(network.state_dict())
    assert close(network(BATCH), plain(BATCH))


@torch.inference_mode()
def test_where_the_class_token_halts_no_block_runs() -> None:
    """With a gate that is wide open, the first block answers, and no other is entered."""
    network = narrow("a_vit_deit_tiny", img_size=64, gate_scale=0.0, gate_center=-50.0)
    entered: list[int] = []
    for layer, block in enumerate(network.blocks):
        block.mlp.register_forward_hook(lambda *_, layer=layer: entered.append(layer))
    output = network.answer(BATCH)
    assert entered == [0]
    assert output.attended.tolist() == [[17] + [0] * 11] * 3
    assert close(output.logits, network.classify(network.blocks[0](network.embed(BATCH))), 1e-5)
    assert (output.ponder == 2).all()


@torch.inference_mode()
def test_exactly_one_less_eps_gives_no_rest() -> None:
    """As released: what has given exactly 1 - eps halts, and what it has left is lost."""
    network = narrow("a_vit_deit_tiny", img_size=64, gate_scale=0.0, gate_center=0.0, eps=0.5)
    output = network.answer(BATCH)
    assert output.attended.tolist() == [[17] + [0] * 11] * 3
    assert close(output.logits, network.head(network.norm(torch.zeros(3, 24))), 1e-6)


@pytest.mark.parametrize(("size", "center"), [("tiny", 30.0), ("small", 75.0), ("base", 75.0)])
def test_gates(size: str, center: float) -> None:
    """The published gates of T and S; B, which was never published, has that of S."""
    with torch.device("meta"):
        network: Any = timm.create_model(f"a_vit_deit_{size}")
    assert (network.gate_scale, network.gate_center, network.eps) == (10.0, center, 0.01)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"eps": 0.0}, "above 0"),
        ({"eps": 1.0}, "below 1"),
        ({"gate_scale": "wide"}, "gate_scale=wide is not a number"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("a_vit_deit_tiny", **keywords)
