"""Tests of networks/evo_levit.py."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, golden_case, images
from networks.owners import owners, reductions
from timm.models import group_parameters
from torch import Tensor, nn

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import CheckpointError, KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.evo_levit import PrunedGroup
from lfvit_cli.networks.method import method_of
from lfvit_cli.networks.traces import Heat

GOLDEN = ("evo_vit_levit_128s", "evo_vit_levit_128s_steps", "evo_vit_levit_stage0")
SIZES: dict[str, Any] = {"C": "16_24_32", "D": 4, "N": "2_3_4", "X": "3_3_2", "num_classes": 5}
# METHODS.md, section 2: fvcore, 1000 classes.
PUBLISHED = {"128s": 258_223_872, "128": 307_619_712, "192": 513_858_112, "256": 884_670_208, "384": 1_856_028_288}
BATCH = images(3, 112)


def small(**keywords: Any) -> Any:
    """A network of a small width for images of 112 pixels a side, in evaluation mode, with lively weights."""
    network = timm.create_model("evo_levit_128s", **(SIZES | {"img_size": 112} | keywords)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.normal_(std=scale, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.add_(1)
    return network


def golden_network(name: str, folder: Path) -> Any:
    """A case's network, with the case's weights loaded from a file in the published layout."""
    case = golden_case(name)
    torch.save({"model": case.state}, folder / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(folder / "published.pth"))
    return network


@pytest.mark.parametrize("name", GOLDEN)
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From the published file, the authors' answer, kept patches, and class attention at the end of each stage."""
    case, network = golden_case(name), golden_network(name, tmp_path)
    ends: list[Tensor] = []

    def note_attention(group: Any, inputs: Any, _keywords: Any, _output: Any) -> None:
        ends.append(group.forward(*inputs, tracked=True)[1])

    groups = [entry for entry in network.stage_blocks if isinstance(entry, PrunedGroup)]
    for group in groups:
        group.register_forward_hook(note_attention, with_kwargs=True)
    output = network.answer(case.images)
    assert agree(output.logits, case.expected["logits"])
    assert len(reductions(output)) == len(ends) == len(groups) >= 2
    for place, trace in enumerate(reductions(output)):
        found = owners(trace)
        assert found[:, -1].tolist() == [196] * 3
        if f"kept_{place}" in case.expected:
            assert torch.equal(found[:, :-1], case.expected[f"kept_{place}"])
            assert close(ends[place], case.expected[f"class_attention_{place}"], 1e-6)


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_macs(size: str) -> None:
    """The authors' arithmetic counts what fvcore counted on their networks."""
    with torch.device("meta"):
        assert timm.create_model(f"evo_levit_{size}").published_macs() == {"full": PUBLISHED[size]}


@pytest.mark.parametrize("name", GOLDEN[1:])
def test_golden_macs(name: str) -> None:
    """And so for the golden networks, one of which prunes in its first stage."""
    case = golden_case(name)
    assert case.bare_network().published_macs() == {"full": case.macs["total"]}


def test_counted_macs_and_tokens() -> None:
    """Layers run on the tokens kept, the class token and the representative; ours forms class attention apart."""
    network = timm.create_model("evo_levit_128s").eval()
    (row,) = count_stages("", network)
    assert row.tokens_per_layer == (197, 197, 50, 26, 26, 26, 17, 10, 10, 10, 10)
    assert row.published_macs == PUBLISHED["128s"]
    # 0.035 % more than theirs: rows of class attention, and the sums that make representative tokens.
    assert row.macs <= PUBLISHED["128s"] + 89_408


def by_hand(network: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Selection by layer, image by image and step by step: the class tokens and the patches."""
    outcomes = [one_by_hand(network, image.unsqueeze(0)) for image in batch]
    return torch.cat([token for token, _ in outcomes]), torch.cat([patches for _, patches in outcomes])


def one_by_hand(network: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    """The same for one image (1, 3, S, S)."""
    tokens, attention = network.embed(image), None
    for entry in network.stage_blocks:
        if isinstance(entry, PrunedGroup):
            for layer, count in enumerate(entry.kept_by_layer):
                assert attention is not None
                tokens, attention = layer_by_hand(entry.m[2 * layer], entry.m[2 * layer + 1], count, tokens, attention)
        elif hasattr(entry, "tracking"):
            tokens, attention = entry.tracking(tokens, attention, learned=False)
        else:
            tokens = entry(tokens)
    return tokens[:, 0], tokens[:, 1:]


def layer_by_hand(attend: Any, feed: Any, count: int, tokens: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    """One pruned layer of one image: both branches at the representative are added to each dropped token."""
    order = attention[0].argsort(descending=True).tolist()
    kept, dropped = order[:count], order[count:]
    share = attention[0, dropped] / attention[0, dropped].sum()
    mean = sum(weight * tokens[0, 1 + place] for weight, place in zip(share, dropped, strict=True))
    running = torch.stack([tokens[0, 0], *(tokens[0, 1 + place] for place in kept), mean]).unsqueeze(0)
    branch, row = attend.m.with_class_row(running)
    running = running + branch
    second = feed.m(running)
    running = running + second
    tokens, attention = tokens.clone(), attention.clone()
    tokens[0, 0] = running[0, 0]
    for rank, place in enumerate(kept):
        tokens[0, 1 + place] = running[0, 1 + rank]
        attention[0, place] = 0.5 * attention[0, place] + 0.5 * row[0, rank]
    for place in dropped:
        tokens[0, 1 + place] += branch[0, -1] + second[0, -1]
    return tokens, attention


@torch.inference_mode()
def test_selection_by_layer() -> None:
    """As training first has it: before each pruned layer anew, and half and half in place of the learned share."""
    network = small()
    token, patches, chosen = network.evolve(BATCH, "layer")
    expected_token, expected_patches = by_hand(network, BATCH)
    assert agree(token, expected_token)
    assert agree(patches, expected_patches)
    assert [each.layer for each in chosen] == [2, 3, 4, 5, 6, 7]
    assert not agree(patches, network.evolve(BATCH, "stage")[1])


@torch.inference_mode()
def test_both_modes_are_one_where_they_say_the_same() -> None:
    """With one pruned layer a stage, and learned shares of a half, which is what they start as."""
    network = small(X="3_1_1")
    for module in network.modules():
        if hasattr(module, "learn_tradeoff"):
            module.learn_tradeoff.zero_()
    assert torch.equal(network.evolve(BATCH, "layer")[1], network.evolve(BATCH, "stage")[1])


@torch.inference_mode()
def test_the_heads_that_answer() -> None:
    """The mean of two with distillation, one without; those of the class token never."""
    network = small()
    features = network.evolve(BATCH)[1].mean(dim=1)
    assert agree(network(BATCH), (network.head(features) + network.head_dist(features)) / 2)
    before = network(BATCH)
    network.head_cls.l.weight.fill_(7.0)
    network.head_cls_dist.l.weight.fill_(7.0)
    assert torch.equal(network(BATCH), before)
    alone = small(distillation=False)
    assert agree(alone(BATCH), alone.head(alone.evolve(BATCH)[1].mean(dim=1)))
    assert not hasattr(alone, "head_dist")


@torch.inference_mode()
def test_traces() -> None:
    """Of each group: the class attention it selects by, and tokens in whose map a coarse cell covers its patches."""
    output = small().answer(BATCH)
    assert [trace.name for trace in reductions(output)] == ["layer 2", "layer 3", "layer 6"]
    heats = [trace for trace in output.traces if isinstance(trace, Heat)]
    assert [heat.values.shape for heat in heats] == [(3, 7, 7), (3, 4, 4), (3, 2, 2)]
    for trace, stride, kept in zip(reductions(output), (1, 2, 4), (24, 8, 2), strict=True):
        assert trace.owner.shape == (3, 7, 7)
        corners = trace.owner[:, ::stride, ::stride]
        spread = corners.repeat_interleave(stride, 1).repeat_interleave(stride, 2)[:, :7, :7]
        assert torch.equal(trace.owner, spread)
        assert owners(trace).shape == (3, kept + 1)


@torch.inference_mode()
def test_answers_do_not_depend_on_companions() -> None:
    """An image alone has the answer and the patches that it has in a batch."""
    network = small()
    together = network.answer(BATCH)
    for row in range(3):
        alone = network.answer(BATCH[row : row + 1])
        assert agree(alone.logits[0], together.logits[row])
        pairs = zip(reductions(alone), reductions(together), strict=True)
        assert all(torch.equal(one.owner[0], every.owner[row]) for one, every in pairs)


@torch.inference_mode()
def test_a_copy_runs_in_double_precision() -> None:
    """And answers the same."""
    network = small()
    double = copy.deepcopy(network).to(torch.float64)
    assert agree(double(BATCH.double()).float(), network(BATCH))


def test_eps_of_every_norm() -> None:
    """All batch norms have PyTorch's 1e-5, and there are no layer norms."""
    network = small()
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert {each.eps for each in norms} == {1e-5}
    assert not any(isinstance(each, nn.LayerNorm) for each in network.modules())


def test_loading_stays_strict(tmp_path: Path) -> None:
    """A real file's counters are taken; one parameter too few, or another family's file, is refused by name."""
    case = golden_case(GOLDEN[0])
    counters = {name: torch.tensor(9) for name in case.bare_network().state_dict() if name.endswith("tracked")}
    torch.save(case.state | counters, tmp_path / "real.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "real.pth"))
    assert network.patch_embed[0].bn.num_batches_tracked == 9
    lacking = {name: value for name, value in case.state.items() if name != "stage_blocks.6.m.0.m.qkv.c.weight"}
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(CheckpointError, match=r"1 missing \(stage_blocks.6.m.0.m.qkv.c.weight\)"):
        load_checkpoint(network, str(tmp_path / "lacking.pth"))
    plain = timm.create_model("deit_tiny_patch16_224", depth=1)
    torch.save(plain.state_dict(), tmp_path / "deit.pth")
    with pytest.raises(CheckpointError, match="holds DeiT weights"):
        load_checkpoint(network, str(tmp_path / "deit.pth"))


def test_starts_from_its_own() -> None:
    """No plain ViT's parameter has a place here."""
    method = method_of("evo_levit_128s")
    assert method is not None
    assert method.from_vit is not None
    assert method.from_vit(small(), {"cls_token": torch.zeros(1, 1, 16)}) == {}
    assert "Evo-LeViT" in method.starts_from


def test_layers_for_layer_decay() -> None:
    """The stem, then every entry and every layer of a group in order, then the heads; no position decays."""
    network = small()
    groups = list(group_parameters(network, network.group_matcher()).values())
    assert "poss" in groups[0]
    assert all("head" in name for name in groups[-1])
    assert len(groups) > 12
    assert {"cls_token", "poss", "stage_blocks.5.poss"} <= network.no_weight_decay()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"C": 162432}, r"C=162432 .* Give a tuple"),
        ({"C": "16_24"}, "C=16_24 is not a number for each of 3 stages"),
        ({"C": (20, 24, 32)}, "multiple of 8"),
        ({"D": 0}, "D=0"),
        ({"D": 5}, "Give multiples of D"),
        ({"N": "two"}, "N=two"),
        ({"X": (2, 0, 4)}, r"X=\(2, 0, 4\)"),
        ({"img_size": 100}, "multiple of 16"),
        ({"img_size": 16}, "larger images"),
        ({"prune_ratio": ((1, 0.5), (0.5, 0.5, 0.5))}, "each of 8 layers"),
        ({"prune_ratio": 0.5}, "Give two lists"),
        ({"prune_ratio": ([0.5] * 8, [0.5] * 3)}, "Begin prune_ratio with 1"),
        ({"prune_ratio": ([1, 1] + [0.5] * 6, [0.5, 1, 0.5])}, "keeps 16 of 16"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        small(**keywords)
