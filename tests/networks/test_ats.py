"""Tests of networks/ats.py."""

from typing import Any

import pytest
import timm
import torch
from networks.cases import close, golden_case, images, narrow
from networks.owners import reductions
from torch import Tensor

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.ats import SOFTMAX_EPS, sample, significance, softmax_of_present
from lfvit_cli.networks.traces import Heat


@pytest.mark.parametrize(("name", "samplings"), [("ats_197", 9), ("ats_three_blocks", 3)])
@torch.inference_mode()
def test_golden_patches(name: str, samplings: int) -> None:
    """After each sampling, exactly the reference's patches are left."""
    case = golden_case(name)
    traces = reductions(case.network().answer(case.images))
    assert len(traces) == samplings
    for trace in traces:
        expected = case.expected[f"kept_mask_{trace.name.removeprefix('layer ')}"]
        assert torch.equal(trace.owner.flatten(1) >= 0, expected)


@pytest.mark.parametrize(("name", "picked_rows"), [("ats_197", 57_545_376), ("ats_three_blocks", 104_838_528)])
@torch.inference_mode()
def test_golden_macs(name: str, picked_rows: int) -> None:
    """The figure for forming the picked rows alone, less their scores and the norm of patches, plus the class row."""
    case = golden_case(name)
    network = case.network()
    output = network.answer(case.images[:1])
    before, after, width = output.attended[0], output.updated[0], network.num_features
    assert case.macs["first_image"] - int(((before - after) * before).sum()) * width == picked_rows
    unpicked = int(((before - after) * before).sum()) * width
    class_rows = int(before[list(network.ats_blocks)].sum()) * width
    norm = 5 * width * (int(after[-1]) - 1)
    assert int(network.macs_of(output)) == picked_rows - unpicked + class_rows - norm


def test_eps_of_the_softmax() -> None:
    """Logits do not pin it: (e + eps/n) / (sum of e + eps) with eps 1e-6, over the tokens that are there."""
    assert SOFTMAX_EPS == 1e-6
    scores = torch.randn(2, 3, 7, dtype=torch.float64)
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    expected = (powers + 1e-6 / 7) / (powers.sum(dim=-1, keepdim=True) + 1e-6)
    assert close(softmax_of_present(scores, None), expected, 1e-12)
    padded = torch.cat((scores, 50 + torch.zeros(2, 3, 4)), dim=-1)
    present = (torch.arange(11) < 7).expand(2, 1, 11)
    assert close(softmax_of_present(padded, present)[..., :7], expected, 1e-12)
    assert not softmax_of_present(padded, present)[..., 7:].any()


def test_without_eps_attention_is_the_same_to_1e6() -> None:
    """What the fused attention leaves out changes what it mixes by less than 1e-6 of the largest value."""
    scores, value = 3 * torch.randn(4, 50, 50, dtype=torch.float64), torch.randn(4, 50, 8, dtype=torch.float64)
    difference = softmax_of_present(scores, None) @ value - scores.softmax(dim=-1) @ value
    assert 0 < difference.abs().max() < 1e-6 * value.abs().max()


@torch.inference_mode()
def test_significance_by_hand() -> None:
    """The class row of the whole attention map, summed over heads, times the length of the whole value vector."""
    query, key, value = (torch.randn(2, 3, 9, 4) for _ in range(3))
    maps = (query @ key.transpose(-2, -1) / 2).softmax(dim=-1)
    lengths = value.transpose(1, 2).flatten(2).norm(dim=-1)
    found = significance(query[:, :, :1], key, value, None)
    assert close(found, (maps[:, :, 0].sum(dim=1) * lengths)[:, 1:], 1e-5)
    # A place without a token changes nothing, whatever lies there.
    present = torch.tensor([[True] * 7 + [False] * 2, [True] * 9])
    short = significance(query[:1, :, :1], key[:1, :, :7], value[:1, :, :7], None)
    padded = significance(query[:, :, :1], key, value, present)
    assert close(padded[:1, :6], short, 1e-5)
    assert padded[0, 6:].tolist() == [0, 0]


def by_hand(scores: list[float], points: int) -> list[bool]:
    """The sampling of one image, step by step."""
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    sums = [sum(scores[place] for place in order[: rank + 1]) for rank in range(len(order))]
    shares = [(each - sums[0]) / (sums[-1] - sums[0]) for each in sums]
    first = min(share for share in shares if share)
    picked = set()
    for point in range(points):
        level = first + point / (points - 1) - first * point / (points - 1)
        picked.add(order[min(range(len(shares)), key=lambda rank: abs(shares[rank] - level))])
    return [place in picked for place in range(len(scores))]


@pytest.mark.parametrize("points", [2, 5, 12, 40])
def test_sampling_by_hand(points: int) -> None:
    """Tokens are those nearest to equal steps of the cumulative scores, in batches of any lengths."""
    scores = torch.rand(20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(points)) ** 3
    found = sample(scores, None, points)
    assert found.tolist() == [by_hand(row, points) for row in scores.tolist()]
    lengths = torch.arange(20) % 11 + 2
    present = torch.arange(12) < lengths.unsqueeze(1)
    for row, mask, length in zip(scores.tolist(), sample(scores * present, present, points), lengths, strict=True):
        assert mask[:length].tolist() == by_hand(row[:length], points)
        assert not mask[length:].any()


def test_at_least_one_token_stays() -> None:
    """The lowest score always goes, but for a token that is alone; and where all scores are 0, one stays."""
    scores = torch.tensor([[0.3, 0.0, 0.0], [0.1, 0.2, 0.3], [0.0, 0.0, 0.0]])
    present = torch.tensor([[True, False, False], [True, True, True], [True, True, True]])
    found = sample(scores, present, 50)
    assert found[:2].tolist() == [[True, False, False], [False, True, True]]
    assert int(found[2].sum()) == 1


@torch.inference_mode()
def test_fewer_points_leave_fewer_tokens() -> None:
    """A block leaves no more tokens than it has sampling points, and the class token."""
    network = narrow("ats_deit_tiny", img_size=64, num_tokens=9)
    output = network.answer(images(3, 64))
    assert int(output.updated[:, 3].max()) == 9
    assert (output.updated.diff(dim=1) <= 0).all()


@torch.inference_mode()
def test_without_sampling_it_is_deit() -> None:
    """With no block that samples, the network is timm's DeiT."""
    network = narrow("ats_deit_tiny", img_size=64, ats_blocks=())
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict(network.state_dict())
    assert close(network(images(2, 64)), plain(images(2, 64)))


@torch.inference_mode()
def test_heat_is_what_the_first_sampling_goes_by() -> None:
    """It is drawn once; the patches of each image that it has highest are among those that stay."""
    output = narrow("ats_deit_tiny", img_size=64, num_tokens=6).answer(images(3, 64))
    heats = [trace for trace in output.traces if isinstance(trace, Heat)]
    assert [heat.name for heat in heats] == ["scores in layer 3"]
    best: Tensor = heats[0].values.flatten(1).argmax(dim=1, keepdim=True)
    assert (reductions(output)[0].owner.flatten(1).gather(1, best) == best).all()


def test_blocks_and_points() -> None:
    """By default, as published: from block 3 on, with 196 points."""
    with torch.device("meta"):
        network: Any = timm.create_model("ats_deit_small")
    assert network.ats_blocks == tuple(range(3, 12))
    assert network.points == (196,) * 12


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"ats_blocks": (3, 12)}, "from 0 to 11"),
        ({"ats_blocks": (6, 3)}, "ascending"),
        ({"ats_blocks": 1.5}, "ascending"),
        ({"num_tokens": 2}, "at least 3"),
        ({"num_tokens": (197, 100)}, "one for each block"),
        ({"num_tokens": "few"}, "at least 3"),
        ({"img_size": 100}, "images of 100 pixels"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("ats_deit_tiny", **keywords)
