"""Tests of networks/evit.py."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, full_class_attention, golden_case, images, narrow
from networks.owners import owners, reductions
from torch import Tensor, nn

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.build import build
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.traces import Heat

BATCH = images(3, 64)
# METHODS.md, section 3: fvcore, DeiT-S.
FUSED = {0.9: 4_030_165_632, 0.8: 3_484_334_976, 0.7: 3_035_522_688, 0.6: 2_640_706_176, 0.5: 2_313_556_608}
UNFUSED = {0.9: 3_996_349_824, 0.8: 3_451_320_960, 0.7: 3_003_167_616, 0.6: 2_613_786_240, 0.5: 2_287_042_176}


@pytest.mark.parametrize("name", ["evit_07", "evit_05_nofuse"])
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From a plain DeiT's file, the answer is the authors', from exactly the same tokens after each reduction."""
    case = golden_case(name)
    torch.save({"model": case.state}, tmp_path / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "published.pth"))
    output = network.answer(case.images)
    assert agree(output.logits, case.expected["logits"])
    assert [trace.name for trace in reductions(output)] == ["layer 3", "layer 6", "layer 9"]
    for reduction, (trace, layer) in enumerate(zip(reductions(output), (3, 6, 9), strict=True)):
        left = owners(trace)
        if network.fuse_token:
            # The one token more is that which has just been fused.
            assert left[:, -1].tolist() == [196 + reduction] * left.shape[0]
            left = left[:, :-1]
        assert torch.equal(left, case.expected[f"kept_{layer}"])


@pytest.mark.parametrize(("fuse", "published", "ours"), [(True, FUSED, 3_035_554_176), (False, UNFUSED, 2_968_994_688)])
def test_small_macs(fuse: bool, published: dict[float, int], ours: int) -> None:
    """The authors' count exactly; ours, as it runs, is 1.1 % less without fusion, and 0.001 % more with it.

    The class token's attention is formed apart, and the last norm reads the class token alone; without fusion there is
    no attention for tokens that are dropped.
    """
    with torch.device("meta"):
        networks = [timm.create_model("evit_deit_small", keep_rate=rate, fuse_token=fuse) for rate in published]
    assert [network.published_macs()["full"] for network in networks] == list(published.values())
    (row,) = count_stages("", timm.create_model("evit_deit_small", fuse_token=fuse).eval())
    assert (row.macs, row.published_macs) == (ours, published[0.7])


@pytest.mark.parametrize("name", ["evit_07", "evit_05_nofuse"])
def test_golden_macs(name: str) -> None:
    """The authors' arithmetic counts what fvcore counted on their network."""
    case = golden_case(name)
    assert case.network().published_macs() == {"full": case.macs["total"]}


def test_published_counts() -> None:
    """A rate is of the tokens present, a fused one counted as one, and rounds up."""
    with torch.device("meta"):
        assert timm.create_model("evit_deit_small").counts == {3: 138, 6: 98, 9: 70}
        assert timm.create_model("evit_deit_small", fuse_token=False).counts == {3: 138, 6: 97, 9: 68}
        network = timm.create_model("evit_deit_tiny", img_size=160, keep_rate=0.55, fuse_token=False)
    # As floats, 0.55 * 100 is 55.00000000000001.
    assert network.counts[3] == 56


@torch.inference_mode()
def test_keeping_all_is_deit() -> None:
    """At rate 1, or one so high that no token would go, the network is timm's DeiT with the same weights."""
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    for rate in (1, 0.99):
        network = narrow("evit_deit_tiny", img_size=64, keep_rate=rate)
        plain.load_state_dict(network.state_dict())
        output = network.answer(BATCH)
        assert output.traces == ()
        assert close(output.logits, plain(BATCH))


@pytest.mark.parametrize(("fuse", "left"), [(True, (13, 11, 9)), (False, (12, 9, 7))])
@torch.inference_mode()
def test_tokens_are_gone(fuse: bool, left: tuple[int, ...]) -> None:
    """MLPs run on what is left, and without fusion so does attention's output in the shrinking block itself."""
    network = narrow("evit_deit_tiny", img_size=64, fuse_token=fuse)
    attended: list[int] = []
    fed: list[int] = []
    for block in network.blocks:
        block.attn.proj.register_forward_hook(lambda _, __, output: attended.append(output.shape[1]))
        block.mlp.register_forward_hook(lambda _, __, output: fed.append(output.shape[1] - 1))
    network(BATCH)
    assert fed == [16] * 3 + [left[0]] * 3 + [left[1]] * 3 + [left[2]] * 3
    assert [attended[layer] for layer in (3, 6, 9)] == [17, 1 + left[0], 1 + left[1]] if fuse else [1 + n for n in left]


@torch.inference_mode()
def test_the_most_attended_are_kept_and_the_others_share_an_owner() -> None:
    """By the class row of the whole attention matrix, which is also the heat that is shown."""
    network = narrow("evit_deit_tiny", img_size=64)
    projected: list[Tensor] = []
    network.blocks[3].attn.qkv.register_forward_hook(lambda _, __, output: projected.append(output))
    output = network.answer(BATCH)
    query, key, _ = projected[0].chunk(3, dim=-1)
    attention = full_class_attention(query, key, num_heads=3).mean(dim=1)
    heat, first = output.traces[:2]
    assert isinstance(heat, Heat)
    assert close(heat.values.flatten(1), attention, 1e-6)
    kept = attention.topk(12, dim=1).indices
    expected = torch.full((3, 16), 16).scatter(1, kept, kept)
    assert torch.equal(first.owner.flatten(1), expected)


@torch.inference_mode()
def test_fused_tokens_may_be_fused_again() -> None:
    """What has been fused stays together, in a fused token of its own or in the next."""
    output = narrow("evit_deit_tiny", img_size=64, keep_rate=0.3).answer(images(16, 64))
    before, after = (trace.owner.flatten(1) for trace in reductions(output)[:2])
    went = after[before == 16].unflatten(0, (16, -1))
    assert bool((went == went[:, :1]).all())
    assert set(went.unique().tolist()) == {16, 17}


def test_other_counts() -> None:
    """Training may have it keep other numbers, as at another rate, with the same weights."""
    network = narrow("evit_deit_tiny", img_size=64)
    other = narrow("evit_deit_tiny", img_size=64, keep_rate=0.5)
    counts = network.counts_at(other.keep_rates)
    assert counts == other.counts
    with torch.inference_mode():
        assert close(network.answer_keeping(BATCH, counts).logits, other(BATCH), 1e-6)


def test_a_rate_for_every_block() -> None:
    """A tuple names each block's rate, on the command line, too."""
    network: Any = build("evit_deit_tiny:keep_rate=(1,0.5,1,0.25),depth=4,img_size=64,embed_dim=24,num_classes=5")
    assert network.counts == {1: 8, 3: 3}


def test_eps_of_every_norm() -> None:
    """All of DeiT's norms have 1e-6."""
    norms = [each for each in narrow("evit_deit_tiny").modules() if isinstance(each, nn.LayerNorm)]
    assert len(norms) == 25
    assert {each.eps for each in norms} == {1e-6}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"keep_rate": 0}, "above 0"),
        ({"keep_rate": 1.1}, "at most 1"),
        ({"keep_rate": float("nan")}, "at most 1"),
        ({"keep_rate": (0.7, 0.5)}, "one for every block"),
        ({"keep_rate": (1,) * 11 + ("half",)}, "one for every block"),
        ({"keep_rate": "half"}, "keep_rate=half"),
        ({"fuse_token": "false"}, "neither True nor False"),
        ({"img_size": 100}, "images of 100 pixels"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("evit_deit_tiny", **keywords)
