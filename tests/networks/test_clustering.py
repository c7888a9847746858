"""Tests of networks/clustering.py: what all clustering methods have in common."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, golden_case, images, narrow
from torch import nn

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.clustering import cluster_counts
from lfvit_cli.networks.method import method_of
from lfvit_cli.networks.stages import stage_names
from lfvit_cli.networks.traces import Tokens

CASES = ("patch_merger_07", "sit_07", "sinkhorn_07", "sinkhorn_07_sharp", "dpc_knn_07", "k_medoids_07")
METHODS = ("patch_merger", "sit", "sinkhorn", "dpc_knn", "k_medoids")
BATCH = images(3, 64)
# METHODS.md: fvcore, S, at keep rates 0.9, 0.7 and 0.5.
PUBLISHED_MACS = {
    "patch_merger": (3_987_795_840, 2_920_397_184, 2_171_129_856),
    "sit": (4_010_601_600, 2_943_110_784, 2_191_582_848),
    "sinkhorn": (3_986_778_240, 2_919_573_504, 2_170_471_296),
    "dpc_knn": (3_921_901_440, 2_884_075_392, 2_151_260_160),
    "k_medoids": (3_921_697_920, 2_883_910_656, 2_151_128_448),
}


def clustering(method: str, **keywords: Any) -> Any:
    """A narrow network for images of 64 pixels a side, 16 patches."""
    return narrow(f"{method}_deit_tiny", img_size=64, **keywords)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From a file in the published layout, the answer is the released implementation's."""
    case = golden_case(name)
    file = tmp_path / "published.pth"
    torch.save({"model": case.state}, file)
    network = case.bare_network()
    load_checkpoint(network, str(file))
    assert head_classes(str(file)) == 10
    assert agree(network(case.images), case.expected["logits"])


@pytest.mark.parametrize("name", CASES)
def test_golden_macs(name: str) -> None:
    """The published count, less the final norm of patches, which nothing reads."""
    case = golden_case(name)
    (row,) = count_stages(name, case.network())
    assert row.macs == case.macs["total"] - 67 * 5 * 48


@pytest.mark.parametrize("method", METHODS)
def test_small_macs(method: str) -> None:
    """The same for DeiT-S at the default rate and two more."""
    for rate, left, published in zip((0.9, 0.7, 0.5), (142, 67, 24), PUBLISHED_MACS[method], strict=True):
        network = timm.create_model(f"{method}_deit_small", keep_rate=rate).eval()
        (row,) = count_stages(method, network)
        assert row.macs == published - left * 5 * 384
        assert row.tokens == 197
        assert row.tokens_per_layer[-1] == left + 1


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_old_tokens_are_gone(method: str) -> None:
    """Each block runs on the class token and as many patch tokens as the clusterings before it have left."""
    network = clustering(method)
    entered: list[int] = []
    for block in network.blocks:
        block.mlp.register_forward_hook(lambda _, __, output: entered.append(output.shape[1]))
    network(BATCH)
    assert network.counts == (11, 7, 5)
    assert entered == [17] * 3 + [12] * 3 + [8] * 3 + [6] * 3


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_traces_follow_patches_through_all_clusterings(method: str) -> None:
    """What a clustering joins stays together: an owner of a trace depends on the owner in the trace before alone."""
    output = clustering(method).answer(BATCH)
    before = torch.arange(16).expand(3, 16)
    for trace, layer, count in zip(output.traces, (3, 6, 9), (11, 7, 5), strict=True):
        assert isinstance(trace, Tokens)
        assert trace.name == f"layer {layer}"
        assert trace.owner.shape == (3, 4, 4)
        owner = trace.owner.flatten(1)
        assert int(owner.min()) >= 0
        assert int(owner.max()) < count
        for row in range(3):
            joined = set(zip(before[row].tolist(), owner[row].tolist(), strict=True))
            assert len(joined) == len(set(before[row].tolist()))
        before = owner


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_answers_do_not_depend_on_companions(method: str) -> None:
    """An image alone has the answer and the clusters that it has in a batch."""
    network = clustering(method)
    together = network.answer(BATCH)
    for row in range(3):
        alone = network.answer(BATCH[row : row + 1])
        assert close(alone.logits[0], together.logits[row])
        assert all(torch.equal(a.owner[0], b.owner[row]) for a, b in zip(alone.traces, together.traces, strict=True))


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_copies_of_other_precision(method: str) -> None:
    """A copy in float64 has the same answers; one in bfloat16 answers, from as many tokens."""
    network = clustering(method)
    logits = network(BATCH)
    double = copy.deepcopy(network).to(torch.float64)(BATCH.double())
    assert double.dtype == torch.float64
    assert agree(double.float(), logits)
    half = copy.deepcopy(network).bfloat16().answer(BATCH.bfloat16())
    assert half.logits.dtype == torch.bfloat16
    assert len(half.traces) == 3


@pytest.mark.parametrize("method", METHODS)
def test_gradients_flow(method: str) -> None:
    """The cross entropy reaches every parameter, those of the clusterings included."""
    network = clustering(method).train()
    nn.functional.cross_entropy(network(BATCH), torch.arange(3)).backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


@pytest.mark.parametrize("method", METHODS)
def test_one_stage_and_its_layers(method: str) -> None:
    """It answers in one stage, clusterings learn at the full rate, and only this method's files have its key."""
    network = clustering(method)
    assert stage_names(network) == ("full",)
    assert network.no_weight_decay() < {name for name, _ in network.named_parameters()}
    found = method_of(f"{method}_deit_base")
    assert found is not None
    assert found.checkpoint_key in (*network.state_dict(), "")
    assert (found.checkpoint_key == "") == (method == "k_medoids")


@pytest.mark.parametrize("method", METHODS)
def test_starts_from_a_plain_vit(method: str) -> None:
    """A plain DeiT's parameters fill all but the clusterings'."""
    network = clustering(method)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5)
    outcome = network.load_state_dict(plain.state_dict(), strict=False)
    assert not outcome.unexpected_keys
    assert {key.partition(".")[0] for key in outcome.missing_keys} <= {"cluster_layers"}


@torch.inference_mode()
def test_eps_of_every_norm() -> None:
    """DeiT's norms have 1e-6, those of PatchMerger's and SiT's clusterings 1e-5."""
    for method in METHODS:
        network = clustering(method)
        eps = {name: each.eps for name, each in network.named_modules() if isinstance(each, nn.LayerNorm)}
        own = {name for name in eps if name.startswith("cluster_layers.")}
        assert len(eps) - len(own) == 25
        assert len(own) == (3 if method in ("patch_merger", "sit") else 0)
        assert all(value == (1e-5 if name in own else 1e-6) for name, value in eps.items())


@torch.inference_mode()
def test_other_places() -> None:
    """Clusterings may lie anywhere, as many as one likes."""
    for method in METHODS:
        network = clustering(method, reduction_loc=(1, 2), keep_rate=0.75, depth=4)
        output = network.answer(BATCH)
        assert network.counts == (12, 9)
        assert [trace.name for trace in output.traces] == ["layer 1", "layer 2"]
        assert bool(output.logits.isfinite().all())


def test_counts() -> None:
    """Powers of the rate, always of the original patches, as floats multiply."""
    assert cluster_counts(196, 0.7, 3) == (137, 96, 67)
    assert cluster_counts(196, (0.5,), 3) == (98, 49, 24)
    assert cluster_counts(196, 1, 3) == (196, 196, 196)
    # 0.7 ** 2 * 100 is 48.99999999999999.
    assert cluster_counts(100, 0.7, 2) == (70, 48)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"keep_rate": 0.0}, "leaves at least one"),
        ({"keep_rate": 1.1}, "at most 1"),
        ({"keep_rate": (0.7, 0.5)}, "one number"),
        ({"keep_rate": "half"}, "one number"),
        ({"keep_rate": 0.01}, "leaves 1, 0, 0 of 196"),
        ({"reduction_loc": (3, 12)}, "from 0 to 11"),
        ({"reduction_loc": (6, 3)}, "ascending"),
        ({"reduction_loc": ()}, "ascending"),
        ({"reduction_loc": (1.5,)}, "ascending"),
        ({"depth": 6}, "6 blocks"),
        ({"img_size": 100}, "images of 100 pixels"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
@pytest.mark.parametrize("method", ["sit", "k_medoids"])
def test_values_that_describe_no_network(method: str, keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model(f"{method}_deit_tiny", **keywords)
