"""Tests of networks/thinking_vit.py."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import Case, agree, close, golden_case, images, narrow
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import CheckpointError, KeywordError
from lfvit_cli.networks.build import build
from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.exits import top10_entropy
from lfvit_cli.networks.method import default_criterion
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.networks.thinking_vit import METHOD, ThinkingViT
from lfvit_cli.policies import Criterion, ExitPolicy

BATCH = images(3, 64)
# THINKINGVIT.md, section 6: what each round costs in the authors' code, and all of them; the sum has one head alone.
PUBLISHED_MACS = {
    (3, 6): ((1_287_312_576, 4_622_670_720), 5_909_983_296),
    (3, 6, 12): ((1_345_115_328, 4_694_997_888, 17_640_453_888), 23_680_567_104),
    (3, 12): ((1_345_115_328, 17_611_597_056), 18_956_712_384),
    (2, 6): ((645_085_312, 4_617_893_248), 5_262_978_560),
    (2, 3): ((616_183_936, 1_263_124_672), 1_879_308_608),
    (2, 3, 6): ((645_085_312, 1_296_867_520, 4_622_670_720), 6_564_623_552),
}


def thinking(*stages: int, **keywords: Any) -> Any:
    """A narrow network of heads of 8 channels, for images of 64 pixels a side."""
    sizes = {"embed_dim": 8 * stages[-1], "num_heads": stages[-1], "img_size": 64, "depth": 3}
    return narrow("thinking_deit_3h_6h", thinking_stages=stages, **{**sizes, **keywords})


@pytest.fixture(scope="module")
def case() -> Case:
    """The golden case; how many classes its entropy has is the criterion's matter, not the network's."""
    found = golden_case("thinking_vit_3_6")
    return replace(found, keywords={key: value for key, value in found.keywords.items() if key != "entropy_classes"})


@torch.inference_mode()
def test_golden(case: Case, tmp_path: Path) -> None:
    """From a file in the published layout, both rounds answer, and hand on, as the released network's do."""
    file = tmp_path / "published.pth.tar"
    torch.save({"state_dict": {f"module.{key}": value for key, value in case.state.items()}}, file)
    network = case.bare_network()
    load_checkpoint(network, str(file))
    assert len(case.state) == 155
    assert head_classes(str(file)) == 20
    outputs: Any = walk(stages_of(network), case.images).outputs
    for index, output in enumerate(outputs):
        assert agree(output.logits, case.expected[f"round_{index}_logits"])
        assert close(top10_entropy(output.logits), case.expected[f"round_{index}_entropy"], 1e-5)
    assert close(outputs[0].tokens[:, 0], case.expected["round_0_class_token"], 1e-5)
    assert torch.equal(network(case.images), outputs[1].logits)


@torch.inference_mode()
def test_golden_early_exit(case: Case) -> None:
    """At the case's threshold of the top-10 entropy each image leaves after the same round, with the same answer."""
    policy = ExitPolicy.at(case.threshold, criterion=Criterion.TOP10_ENTROPY)
    walked = walk(stages_of(case.network()), case.images, policy)
    assert torch.equal(walked.exit_stage, case.expected["exit_round"])
    assert torch.equal(walked.exited, case.expected["exited"])
    assert 0 < walked.exited.sum() < len(case.images)
    assert agree(walked.logits, case.expected["early_exit_logits"])


def test_golden_macs(case: Case) -> None:
    """The published arithmetic is fvcore's count of the released network, which has one head in all."""
    first, second = case.bare_network().published_macs().values()
    assert first == case.macs["round_0"]
    assert first + second - 48 * 20 == case.macs["rounds_0_to_1"]


@pytest.mark.parametrize("stages", PUBLISHED_MACS)
def test_published_macs(stages: tuple[int, ...]) -> None:
    """THINKINGVIT.md's table; its later rounds are what running them adds, less the heads of the rounds before."""
    rounds, total = PUBLISHED_MACS[stages]
    with torch.device("meta"):
        network = timm.create_model("thinking_deit_3h_6h", thinking_stages=stages)
    widths = (0, *(64 * heads for heads in stages))
    heads = [1000 * width for width in widths[:-1]]
    macs = list(network.published_macs().values())
    assert [own - head for own, head in zip(macs, heads, strict=True)] == list(rounds)
    assert sum(macs) - sum(heads) == total


def test_both_economies() -> None:
    """Round 0 costs what DeiT-T does, both rounds 5.8522 G as THINKINGVIT.md counts: 58 M less than published."""
    first, second = count_stages("thinking", build("thinking_deit_3h_6h"))
    assert (first.published_macs, second.published_macs) == (1_287_312_576, 4_622_862_720)
    # Of the last norm the head reads the class token alone.
    last_norm = 196 * 5 * 384
    assert first.macs == 1_258_411_200
    assert round((first.macs + second.macs + last_norm - 192 * 1000) / 1e9, 4) == 5.8522
    assert second.macs == 4_622_862_720 - 196 * 768 * 192 - last_norm


@torch.inference_mode()
def test_a_round_of_its_own_width_is_a_plain_vit() -> None:
    """Round 0 is timm's DeiT of the first heads and channels; with alpha 0, the others are such DeiTs as well."""
    network = thinking(1, 2, 3)
    for alpha in network.alpha:
        alpha.zero_()
    for output, heads in zip(walk(stages_of(network), BATCH).outputs, (1, 2, 3), strict=True):
        plain = VisionTransformer(64, embed_dim=8 * heads, num_heads=heads, depth=3, num_classes=5).eval()
        plain.load_state_dict(cut(network.state_dict(), plain.state_dict()))
        assert agree(output.logits, plain(BATCH))


def cut(state: dict[str, Tensor], places: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first channels of every parameter, of each third of the queries, keys and values."""
    found = {}
    for name, place in places.items():
        parts = 3 if ".qkv." in name else 1
        cuts = [
            part[tuple(slice(size) for size in (place.shape[0] // parts, *place.shape[1:]))]
            for part in state[name].chunk(parts)
        ]
        found[name] = torch.cat(cuts)
    return found


@torch.inference_mode()
def test_a_later_round_starts_from_the_one_before() -> None:
    """A later round adds alpha times the projected tokens of the round just before to its own embedding."""
    network = thinking(1, 2, 3)
    outputs: Any = walk(stages_of(network), BATCH).outputs
    tokens = network.embed(BATCH)
    assert agree(outputs[0].embedding, tokens[..., :8])
    assert agree(outputs[1].embedding, tokens[..., :16])
    started = []
    network.blocks[0].norm1.register_forward_pre_hook(lambda _, args: started.append(args[0]))
    network.think(2, BATCH, outputs[1])
    expected = tokens + network.alpha[1] * network.proj_layer2(outputs[1].tokens)
    assert agree(started[0], expected)


@torch.inference_mode()
def test_three_rounds(tmp_path: Path) -> None:
    """Three rounds have the further keys of the published layout, and an image may leave after each."""
    network = thinking(1, 2, 4)
    assert stage_names(network) == ("1_heads", "2_heads", "4_heads")
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["proj_layer.weight"] == (32, 8)
    assert shapes["proj_layer2.weight"] == (32, 16)
    assert shapes["alpha.0"] == shapes["alpha.1"] == (1,)
    batch = images(8, 64)
    answers = [output.logits for output in walk(stages_of(network), batch).outputs]
    entropies = [top10_entropy(logits) for logits in answers]
    thresholds = [float(each.median()) for each in entropies[:2]]
    walked = walk(stages_of(network), batch, ExitPolicy.at(*thresholds, criterion=Criterion.TOP10_ENTROPY))
    left = [entropy < threshold for entropy, threshold in zip(entropies, thresholds, strict=False)]
    expected = torch.where(left[0], 0, torch.where(left[1], 1, 2))
    assert torch.equal(walked.exit_stage, expected)
    assert set(expected.tolist()) == {0, 1, 2}
    for row, stage in enumerate(expected.tolist()):
        assert agree(walked.logits[row], answers[stage][row])
    file = tmp_path / "three.pth"
    torch.save(network.state_dict(), file)
    again = thinking(1, 2, 4, num_classes=5)
    load_checkpoint(again, str(file))
    assert torch.equal(again(batch), network(batch))


@pytest.mark.parametrize("theirs", [(2, 4), (1, 2, 4), (2, 6)])
@pytest.mark.parametrize("ours", [(1, 4), (1, 3, 4)])
def test_a_checkpoint_of_other_stages_is_refused(
    ours: tuple[int, ...], theirs: tuple[int, ...], tmp_path: Path
) -> None:
    """Other heads in a round, or another number of rounds: the checkpoint tells which, and the remedy names them."""
    file = tmp_path / "other.pth"
    torch.save(thinking(*theirs).state_dict(), file)
    remedy = f"Add thinking_stages={theirs} to".replace(", ", ",")
    with pytest.raises(CheckpointError, match=re.escape(remedy)):
        load_checkpoint(thinking(*ours), str(file))


@torch.inference_mode()
def test_answers_do_not_depend_on_companions() -> None:
    """An image alone has the answers that it has in a batch."""
    network = thinking(1, 3)
    together = walk(stages_of(network), BATCH).outputs
    for row in range(3):
        alone = walk(stages_of(network), BATCH[row : row + 1]).outputs
        assert all(agree(one.logits[0], all_.logits[row]) for one, all_ in zip(alone, together, strict=True))


@torch.inference_mode()
def test_copies_of_other_precision() -> None:
    """A copy in float64 has the same answers, and one in bfloat16 answers."""
    network = thinking(1, 3)
    logits = network(BATCH)
    assert agree(copy.deepcopy(network).to(torch.float64)(BATCH.double()).float(), logits)
    half = copy.deepcopy(network).bfloat16()(BATCH.bfloat16())
    assert half.dtype == torch.bfloat16
    assert agree(half.float(), logits, 0.2)


@torch.inference_mode()
def test_fewer_than_ten_classes() -> None:
    """With three classes all of them count for the entropy, and images leave by it."""
    network = thinking(1, 3, num_classes=3)
    first: Tensor = walk(stages_of(network), BATCH).outputs[0].logits
    entropies = top10_entropy(first)
    assert close(entropies, torch.distributions.Categorical(logits=first).entropy(), 1e-5)
    policy = ExitPolicy.at(float(entropies.median()), criterion=Criterion.TOP10_ENTROPY)
    assert int(walk(stages_of(network), BATCH, policy).exited.sum()) == 1


def test_eps_of_every_norm(case: Case) -> None:
    """All LayerNorms have 1e-6, which logits do not pin."""
    norms = [module for module in case.bare_network().modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {1e-6}


def test_gradients_flow() -> None:
    """The mean over rounds of the cross entropy reaches every parameter, through all rounds."""
    network = thinking(1, 2, 3, drop_path_rate=0.1).train()
    outputs = walk(stages_of(network), BATCH).outputs
    torch.stack([F.cross_entropy(output.logits, torch.arange(3)) for output in outputs]).mean().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_training_starts_as_a_plain_vit() -> None:
    """A fresh alpha is 0, a plain DeiT fills all but alpha and projections, and weight decay spares tokens."""
    network = timm.create_model("thinking_deit_3h_6h", depth=2)
    assert [float(alpha.detach()) for alpha in network.alpha] == [0.0]
    plain = timm.create_model("deit_small_patch16_224", depth=2)
    outcome = network.load_state_dict(plain.state_dict(), strict=False)
    assert not outcome.unexpected_keys
    assert set(outcome.missing_keys) == {"alpha.0", "proj_layer.weight", "proj_layer.bias"}
    assert network.no_weight_decay() < {name for name, _ in network.named_parameters()}
    assert METHOD.from_vit is None


def test_published_choices() -> None:
    """Images leave by a top-10 entropy below 0.5, after the whole picture but a tenth is seen."""
    network: Any = build("thinking_deit_3h_6h")
    assert default_criterion("thinking_deit_3h_6h") is Criterion.TOP10_ENTROPY
    assert METHOD.policy == ExitPolicy.at(0.5, criterion=Criterion.TOP10_ENTROPY)
    assert network.pretrained_cfg["crop_pct"] == 0.9
    assert sum(parameter.numel() for parameter in network.parameters()) == 22_124_777


@pytest.mark.parametrize(("stages", "width"), [((2, 3), 192), ((3, 12), 768), ((15, 22), 1408)])
def test_any_heads(stages: tuple[int, ...], width: int) -> None:
    """The stages alone say how wide the network is, 64 channels a head, whatever floats make of their ratio."""
    network: Any = build(f"thinking_deit_3h_6h:thinking_stages={stages},depth=1".replace(" ", ""))
    assert network.num_features == width
    assert network.widths == tuple(64 * heads for heads in stages)
    assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"thinking_stages": (3,)}, "two or three growing numbers"),
        ({"thinking_stages": 6}, "two or three growing numbers"),
        ({"thinking_stages": (6, 3)}, "two or three growing numbers"),
        ({"thinking_stages": (3, 3, 6)}, "two or three growing numbers"),
        ({"thinking_stages": (1, 2, 3, 6)}, "two or three growing numbers"),
        ({"thinking_stages": (0, 6)}, "two or three growing numbers"),
        ({"thinking_stages": (1.5, 6)}, "two or three growing numbers"),
        ({"thinking_stages": (3, 6), "num_heads": 12}, "Give num_heads=6"),
        ({"thinking_stages": (3, 6), "embed_dim": 100}, "embed_dim=100"),
        ({"img_size": 100}, "images of 100 pixels"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        ThinkingViT(**keywords)
