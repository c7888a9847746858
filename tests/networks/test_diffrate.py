"""Tests of networks/diffrate.py."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, golden_case, images, narrow
from networks.owners import reductions
from torch import Tensor, nn

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.diffrate import class_attention, merge_last
from lfvit_cli.networks.stages import stage_names

CASE = "diffrate_29"
BATCH = images(3, 64)
# Of 17 tokens: blocks that merge, do nothing, prune and merge, and do nothing again.
RATES: dict[str, Any] = {"prune_kept_num": (17, 15, 12, 8), "merge_kept_num": (15, 15, 8, 8), "depth": 4}


@torch.inference_mode()
def test_golden(tmp_path: Path) -> None:
    """From a plain DeiT's file: logits, and exactly the reference's groups of patches, pruned ones in none."""
    case = golden_case(CASE)
    torch.save({"model": case.state}, tmp_path / "deit.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "deit.pth"))
    output = network.answer(case.images)
    assert agree(output.logits, case.expected["logits"])
    named = {trace.name: trace.owner.flatten(1) for trace in reductions(output)}
    for layer in (2, 6, 11):
        owner, groups = named[f"layer {layer}"], case.expected[f"group_{layer}"][:, 1:]
        assert torch.equal(owner < 0, groups < 0)
        assert torch.equal(owner[:, :, None] == owner[:, None, :], groups[:, :, None] == groups[:, None, :])


@torch.inference_mode()
def test_tokens_of_every_block() -> None:
    """The MLPs see what merging leaves; attention is computed for what pruning leaves."""
    case = golden_case(CASE)
    network = case.network()
    fed: list[int] = []
    for block in network.blocks:
        block.mlp.register_forward_pre_hook(lambda _, args: fed.append(args[0].shape[1]))
    network(case.images)
    assert tuple(fed) == case.keywords["merge_kept_num"]
    (row,) = count_stages(CASE, network)
    assert row.tokens_per_layer == case.keywords["prune_kept_num"]


@pytest.mark.parametrize("full", [False, True])
def test_macs(full: bool) -> None:
    """The authors' figure; ours leaves out what pruned tokens attend to, and has the class rows on top.

    It is also less by the class token as a partner of merging, and by the final norm of patches.
    """
    case = golden_case(CASE)
    network = timm.create_model("diffrate_deit_small").eval() if full else case.network()
    (row,) = count_stages(CASE, network)
    published = 2_915_003_136 if full else case.macs["total"]
    assert row.published_macs == published
    width, unneeded = network.num_features, 5 * network.num_features * 2
    before = (197, *network.merge_kept)
    for count, pruned, merged in zip(before, network.prune_kept, network.merge_kept, strict=False):
        unneeded += (count - pruned) * (width**2 + 2 * count * width) + (pruned - merged) * width
    # The first block keeps all, and so needs no order.
    assert published - row.macs == unneeded - sum(before[1:12]) * width


def test_class_attention_by_hand() -> None:
    """The class row of the whole map, sizes included, over the other tokens."""
    query, key, bias = torch.randn(2, 3, 9, 4), torch.randn(2, 3, 9, 4), torch.randn(2, 9)
    maps = query @ key.transpose(-2, -1) / 2
    plain = maps.softmax(dim=-1).mean(dim=1)[:, 0, 1:]
    assert close(class_attention(query, key, None), plain, 1e-6)
    biased = (maps + bias[:, None, None]).softmax(dim=-1).mean(dim=1)[:, 0, 1:]
    assert close(class_attention(query, key, bias), biased, 1e-6)


def test_merging_by_hand() -> None:
    """Plain means; sizes grow by size times cosine; never into the class token."""
    tokens, size = torch.randn(2, 7, 4, dtype=torch.float64), 1 + torch.rand(2, 7, dtype=torch.float64)
    # The last is most like the class token, and then like the third.
    tokens[:, 6], tokens[:, 2] = 2 * tokens[:, 0], tokens[:, 0] + 0.1
    merged, sizes, place = merge_last(tokens, size, 4)
    assert place[:, :4].tolist() == [[0, 1, 2, 3]] * 2
    assert place[:, 6].tolist() == [2, 2]
    cosine = nn.functional.cosine_similarity(tokens[:, :, None], tokens[:, None], dim=-1)
    for row in range(2):
        for new in range(4):
            members = place[row] == new
            assert torch.allclose(merged[row, new], tokens[row][members].mean(dim=0))
            gained = [float(size[row, old] * cosine[row, old, new]) for old in (4, 5, 6) if members[old]]
            assert float(sizes[row, new]) == pytest.approx(max(1e-6, float(size[row, new]) + sum(gained)))
        for old in (4, 5, 6):
            assert int(place[row, old]) == 1 + int(cosine[row, old, 1:4].argmax())


def test_sizes_stay_above_zero() -> None:
    """Their logarithm is taken, so several opposite tokens merged into one leave it small, and no less."""
    tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, -1.0]]).unsqueeze(0)
    _, sizes, _ = merge_last(tokens, None, 2)
    assert sizes[0].tolist() == pytest.approx([1, 1e-6])


@torch.inference_mode()
def test_keeping_all_is_deit() -> None:
    """With every token kept the network is timm's DeiT."""
    network = narrow("diffrate_deit_tiny", img_size=64, prune_kept_num=(17,) * 12, merge_kept_num=(17,) * 12)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict(network.state_dict())
    output = network.answer(BATCH)
    assert close(output.logits, plain(BATCH))
    assert output.traces == ()


@torch.inference_mode()
def test_traces_follow_patches() -> None:
    """Pruned patches stay pruned, merged ones stay together, and there are as many tokens as the rates say."""
    traces = reductions(narrow("diffrate_deit_tiny", img_size=64, **RATES).answer(BATCH))
    assert [trace.name for trace in traces] == ["layer 0", "layer 2"]
    first, second = (trace.owner.flatten(1) for trace in traces)
    assert (first >= 0).all()
    for row in range(3):
        assert set(first[row].tolist()) | {0} == set(range(15))
        assert set(second[row].tolist()) | {0, -1} == {-1, *range(8)}
    together: Tensor = first[:, :, None] == first[:, None, :]
    assert (second[:, :, None] == second[:, None, :])[together].all()


@torch.inference_mode()
def test_answers_do_not_depend_on_companions() -> None:
    """An image alone has the answer and the tokens that it has in a batch."""
    network = narrow("diffrate_deit_tiny", img_size=64, **RATES)
    together = network.answer(BATCH)
    for row in range(3):
        alone = network.answer(BATCH[row : row + 1])
        assert close(alone.logits[0], together.logits[row], 1e-5)
        for one, several in zip(reductions(alone), reductions(together), strict=True):
            assert torch.equal(one.owner[0], several.owner[row])


@torch.inference_mode()
def test_copies_of_other_precision() -> None:
    """A copy in float64 has the same answers; one in bfloat16 answers, from as many tokens."""
    network = narrow("diffrate_deit_tiny", img_size=64, **RATES)
    double = copy.deepcopy(network).to(torch.float64)(BATCH.double())
    assert double.dtype == torch.float64
    assert close(double.float(), network(BATCH), 1e-4)
    half = copy.deepcopy(network).bfloat16().answer(BATCH.bfloat16())
    assert half.logits.dtype == torch.bfloat16
    assert bool(half.logits.isfinite().all())


def test_gradients_flow() -> None:
    """All weights get a gradient."""
    network = narrow("diffrate_deit_tiny", img_size=64, **RATES).train()
    network(BATCH).square().sum().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_eps_of_every_norm() -> None:
    """Logits do not pin it: DeiT's norms have 1e-6."""
    network = narrow("diffrate_deit_tiny", img_size=64, **RATES)
    assert {each.eps for each in network.modules() if isinstance(each, nn.LayerNorm)} == {1e-6}
    assert stage_names(network) == ("full",)


def test_published_rates_for_other_images() -> None:
    """By default, the shares of the 197 tokens that were published: of 17, and of 577."""
    assert narrow("diffrate_deit_tiny", img_size=64).merge_kept == (17, 17, 15, 13, 12, 11, 10, 9, 8, 6, 5, 2)
    with torch.device("meta"):
        assert timm.create_model("diffrate_deit_small", img_size=384).prune_kept[-2:] == (170, 9)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"depth": 4}, "each of 4 blocks"),
        ({"prune_kept_num": (197, 100)}, "prune_kept_num=.197, 100. does not say"),
        ({"merge_kept_num": 100}, "merge_kept_num=100 does not say"),
        ({"merge_kept_num": (197.5,) * 12}, "a number for each block"),
        ({"prune_kept_num": (198,) * 12, "merge_kept_num": (197,) * 12}, "block 0 cannot keep 198 of 197"),
        ({"prune_kept_num": (197,) * 12}, "block 2 cannot keep 197 of 194"),
        ({"prune_kept_num": (197,) * 12, "merge_kept_num": (*(197,) * 11, 1)}, "leave at least 2 where tokens merge"),
        ({"prune_kept_num": (0,) * 12, "merge_kept_num": (0,) * 12}, "block 0 cannot keep 0"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("diffrate_deit_tiny", **keywords)
