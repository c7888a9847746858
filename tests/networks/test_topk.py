"""Tests of networks/topk.py."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, golden_case, images, narrow
from networks.owners import owners, reductions

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint

METHODS = ("topk", "evit_tr")
BATCH = images(3, 64)
# METHODS.md, section 11: fvcore, S, at keep rates 0.9, 0.7 and 0.5.
PUBLISHED_MACS = {
    "topk": (3_967_752_576, 2_986_499_712, 2_282_233_728),
    "evit_tr": (3_985_116_288, 3_003_167_616, 2_298_373_248),
}


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_golden(method: str, tmp_path: Path) -> None:
    """From a plain DeiT's file, the answer is the released implementation's, from exactly the same tokens."""
    case = golden_case(f"{method}_07")
    torch.save({"model": case.state}, tmp_path / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "published.pth"))
    output = network.answer(case.images)
    assert agree(output.logits, case.expected["logits"])
    assert len(reductions(output)) == 3
    for trace, layer in zip(reductions(output), (3, 6, 9), strict=True):
        assert torch.equal(owners(trace)[:, : -1 if network.fuse_token else None], case.expected[f"kept_{layer}"])
    assert network.published_macs() == {"full": case.macs["total"]}


@pytest.mark.parametrize("method", METHODS)
def test_small_macs(method: str) -> None:
    """The released count exactly; ours is less for Top-K, where nothing is attended for tokens that are dropped."""
    with torch.device("meta"):
        networks = [timm.create_model(f"{method}_deit_small", keep_rate=rate) for rate in (0.9, 0.7, 0.5)]
    assert [network.published_macs()["full"] for network in networks] == list(PUBLISHED_MACS[method])
    (row,) = count_stages("", timm.create_model(f"{method}_deit_small").eval())
    assert row.published_macs == PUBLISHED_MACS[method][1]
    assert row.macs == {"topk": 2_952_082_944, "evit_tr": 3_003_203_712}[method]


@pytest.mark.parametrize("method", METHODS)
def test_counts(method: str) -> None:
    """Powers of the rate, always of the original patches; the fused token comes on top."""
    with torch.device("meta"):
        assert timm.create_model(f"{method}_deit_small").counts == {3: 137, 6: 96, 9: 67}
        assert timm.create_model(f"{method}_deit_small", keep_rate=(0.5,)).counts == {3: 98, 6: 49, 9: 24}
        other = timm.create_model(f"{method}_deit_small", keep_rate=0.5, reduction_loc=(1, 2), depth=4)
    assert other.counts == {1: 98, 2: 49}


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_keeping_all_is_deit(method: str) -> None:
    """At rate 1 the network is timm's DeiT with the same weights, and by its own count as expensive."""
    network = narrow(f"{method}_deit_tiny", img_size=64, keep_rate=1)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict(network.state_dict())
    assert close(network(BATCH), plain(BATCH))
    with torch.device("meta"):
        small = timm.create_model(f"{method}_deit_small", keep_rate=1)
    assert small.published_macs() == {"full": 4_608_338_304}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("keywords", "words"),
    [({"keep_rate": 1.1}, "at most 1"), ({"keep_rate": (0.7, 0.5)}, "one"), ({"reduction_loc": (3, 12)}, "0 to 11")],
)
def test_values_that_describe_no_network(method: str, keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model(f"{method}_deit_tiny", **keywords)
