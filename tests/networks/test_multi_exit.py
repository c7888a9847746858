"""Tests of networks/multi_exit.py."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import NARROW, agree, close, images, narrow
from timm.models.vision_transformer import Block
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.cost import count_macs, count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.build import build
from lfvit_cli.networks.checkpoints import head_classes, load_checkpoint
from lfvit_cli.networks.layers import EPS
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.networks.traces import Heat
from lfvit_cli.policies import ExitPolicy

BATCH = images(8, 64)
DEPTH, WIDTH, CLASSES = 6, NARROW["embed_dim"], NARROW["num_classes"]
LAYERS = ((3,), (2, 5), (1, 2, 5))
BRANCHES = ("mlp", "vit")


def multi_exit(layers: tuple[int, ...] = (2, 5), branch: str = "mlp", **keywords: Any) -> Any:
    """A narrow network of six blocks for images of 64 pixels."""
    return narrow("multi_exit", img_size=64, depth=DEPTH, layers=layers, branch=branch, **keywords)


def plain_of(network: Any) -> Any:
    """Timm's own vision transformer with the backbone's weights."""
    plain = timm.create_model("deit_small_patch16_224", img_size=64, depth=DEPTH, **NARROW).eval()
    missing = plain.load_state_dict(network.state_dict(), strict=False).missing_keys
    assert not missing
    return plain


def exit_by_hand(branch: Any, kind: str, tokens: Tensor) -> Tensor:
    """(B, K) logits of an exit; a whole block of timm's over all tokens stands for the one that reads one token."""
    if kind == "vit":
        block = Block(WIDTH, NARROW["num_heads"], qkv_bias=True, norm_layer=nn.LayerNorm)
        block.norm1.eps = block.norm2.eps = EPS
        block.load_state_dict(branch.block.state_dict())
        features: Tensor = branch.norm(block(tokens)[:, 0])
    else:
        features = F.gelu(branch.norm(tokens[:, 0]) @ branch.fc.weight.T + branch.fc.bias)
    return F.linear(features, branch.head.weight, branch.head.bias)


def by_hand(network: Any, batch: Tensor) -> list[Tensor]:
    """(B, K) logits of every stage: timm's backbone, block by block."""
    plain = plain_of(network)
    tokens = plain._pos_embed(plain.patch_embed(batch))
    answers = []
    for run, block in enumerate(plain.blocks, start=1):
        tokens = block(tokens)
        if run in network.layers:
            branch = network.exits[network.layers.index(run)]
            answers.append(exit_by_hand(branch, network.branch, tokens))
    return [*answers, plain.head(plain.norm(tokens)[:, 0])]


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("layers", LAYERS)
@torch.inference_mode()
def test_a_walk_is_the_backbone_and_its_branches_by_hand(layers: tuple[int, ...], branch: str) -> None:
    """Each image has the answer of the first stage that is sure, and no block runs for one that has left."""
    network = multi_exit(layers, branch)
    answers = by_hand(network, BATCH)
    sure = [answer.softmax(dim=-1).amax(dim=-1) for answer in answers]
    # Between two images, so that rounding decides nothing.
    thresholds = tuple(float(each.sort().values[len(BATCH) // 2 - 1 :][:2].mean()) for each in sure[:-1])
    rows: dict[int, int] = {}
    for number, block in enumerate(network.blocks):
        block.register_forward_pre_hook(lambda _, args, number=number: rows.update({number: args[0].shape[0]}))

    walked = walk(stages_of(network), BATCH, ExitPolicy.at(*thresholds))

    stands = [each >= threshold for each, threshold in zip(sure, (*thresholds, 0.0), strict=True)]
    expected = torch.stack(stands).int().argmax(dim=0)
    assert torch.equal(walked.exit_stage, expected)
    assert len(set(expected.tolist())) > 1
    for row, stage in enumerate(expected.tolist()):
        assert agree(walked.logits[row], answers[stage][row])
    for stage, (start, end) in enumerate(pairwise((0, *layers, DEPTH))):
        entered = int((expected >= stage).sum())
        assert [rows.get(number, 0) for number in range(start, end)] == [entered] * (end - start)


@pytest.mark.parametrize("branch", BRANCHES)
@torch.inference_mode()
def test_all_stages(branch: str) -> None:
    """Without a policy each stage answers for all images, and the last one as the network itself and as timm's."""
    network = multi_exit(branch=branch)
    assert stage_names(network) == ("after_2", "after_5", "full")
    outputs = walk(stages_of(network), BATCH).outputs
    for output, expected in zip(outputs, by_hand(network, BATCH), strict=True):
        assert agree(output.logits, expected)
    assert torch.equal(network(BATCH), outputs[-1].logits)


def test_macs_add_up() -> None:
    """The stages together cost the plain network and its branches, counted by hand."""
    plain = plain_of(multi_exit())
    (stage,) = stages_of(plain)
    alone = count_macs(plain, stage, torch.zeros(1, 3, 64, 64), None)
    tokens, norm, head = 17, 5 * WIDTH, WIDTH * CLASSES
    mlp = norm + WIDTH**2 + head
    # Keys and values of all tokens; query, projection and MLP of one; two products, and the row of weights once more.
    vit = tokens * (norm + 2 * WIDTH**2) + 10 * WIDTH**2 + 3 * tokens * WIDTH + 2 * norm + head
    for branch, cost in (("mlp", mlp), ("vit", vit)):
        for layers in LAYERS:
            rows = count_stages("", multi_exit(layers, branch))
            assert sum(row.macs for row in rows) == alone + len(layers) * cost


def test_small() -> None:
    """DeiT-S with the default exits costs a third to each stage, and all of them 0.02 % more than DeiT-S."""
    rows = count_stages("", build("multi_exit_deit_small"))
    assert [row.macs for row in rows] == [1_574_927_232, 1_517_124_480, 1_517_353_344]
    assert 0 < sum(row.macs for row in rows) - 4_608_338_304 < 0.0003 * 4_608_338_304


def test_checkpoints(tmp_path: Path) -> None:
    """Its own file fits strictly and tells the classes; a plain vision transformer's fills all but the exits."""
    network = multi_exit()
    file = tmp_path / "own.pth"
    torch.save({"model": network.state_dict()}, file)
    again = timm.create_model("multi_exit", img_size=64, depth=DEPTH, layers=(2, 5), **NARROW).eval()
    load_checkpoint(again, str(file))
    assert head_classes(str(file)) == CLASSES
    assert torch.equal(again(BATCH), network(BATCH))
    plain = timm.create_model("deit_small_patch16_224", img_size=64, depth=DEPTH, **NARROW)
    outcome = network.load_state_dict(plain.state_dict(), strict=False)
    assert not outcome.unexpected_keys
    assert {key.partition(".")[0] for key in outcome.missing_keys} == {"exits"}


def test_layer_decay() -> None:
    """With layer decay the exits learn at the full rate and each block below the last at half that of the next."""
    network = multi_exit(branch="vit")
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    groups = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    scales = {name: groups[id(weight)]["lr_scale"] for name, weight in network.named_parameters()}
    assert {scale for name, scale in scales.items() if name.startswith(("exits.", "head."))} == {1.0}
    assert [scales[f"blocks.{layer}.mlp.fc1.weight"] for layer in (5, 4, 0)] == [0.5, 0.25, 0.5**6]
    assert network.no_weight_decay() == {"cls_token", "pos_embed"}
    assert all(groups[id(weight)]["weight_decay"] == 0 for weight in (network.cls_token, network.pos_embed))


def test_gradients_flow() -> None:
    """The mean over stages of the cross entropy reaches every parameter."""
    network = multi_exit(branch="vit").train()
    outputs = walk(stages_of(network), BATCH).outputs
    labels = torch.arange(8) % CLASSES
    torch.stack([F.cross_entropy(output.logits, labels) for output in outputs]).mean().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


@torch.inference_mode()
def test_attention_of_vit_exits() -> None:
    """A ViT exit shows where its class token looks, without registers; an MLP exit has nothing to show."""
    network = multi_exit(branch="vit", reg_tokens=4)
    *exits, full = walk(stages_of(network), BATCH).outputs
    for output in exits:
        (heat,) = output.traces
        assert isinstance(heat, Heat)
        assert heat.values.shape == (8, 4, 4)
        assert bool((heat.values > 0).all())
        assert bool((heat.values.sum(dim=(1, 2)) < 1).all())
    assert full.traces == ()
    assert walk(stages_of(multi_exit()), BATCH).outputs[0].traces == ()


@pytest.mark.parametrize("branch", BRANCHES)
@torch.inference_mode()
def test_copies_of_other_precision(branch: str) -> None:
    """A copy in float64 has the same answers, one in bfloat16 answers, and an image alone is as in its batch."""
    network = multi_exit(branch=branch)
    together = walk(stages_of(network), BATCH).outputs
    double = walk(stages_of(copy.deepcopy(network).to(torch.float64)), BATCH.double()).outputs
    half = walk(stages_of(copy.deepcopy(network).bfloat16()), BATCH.bfloat16()).outputs
    for stage, output in enumerate(together):
        assert agree(double[stage].logits.float(), output.logits)
        assert half[stage].logits.dtype == torch.bfloat16
    for row in range(3):
        alone = walk(stages_of(network), BATCH[row : row + 1]).outputs
        assert all(close(one.logits[0], many.logits[row]) for one, many in zip(alone, together, strict=True))


def test_any_plain_vision_transformer() -> None:
    """Other backbones of timm's serve, with their own normalisation of the images; a single exit needs no tuple."""
    network: Any = build("multi_exit:backbone=vit_tiny_patch16_224,layers=2,depth=3,img_size=32,num_classes=4")
    assert network.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert network.pretrained_cfg["input_size"] == (3, 32, 32)
    assert network.layers == (2,)
    assert [output.logits.shape for output in walk(stages_of(network), images(1, 32)).outputs] == [(1, 4)] * 2


def test_other_classes() -> None:
    """Timm's way to start heads anew reaches those of the exits."""
    network = multi_exit(branch="vit")
    network.reset_classifier(7)
    assert [output.logits.shape for output in walk(stages_of(network), BATCH).outputs] == [(8, 7)] * 3


@pytest.mark.parametrize("branch", BRANCHES)
def test_small_constants(branch: str) -> None:
    """Every layer norm, the exits' included, has the backbone's eps."""
    norms = [module for module in multi_exit(branch=branch).modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 2 * DEPTH + 1 + (2 if branch == "mlp" else 6)
    assert {norm.eps for norm in norms} == {1e-6}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"backbone": "lf_deit_small"}, "not a plain vision transformer"),
        ({"layers": ()}, "ascending"),
        ({"layers": (8, 4)}, "ascending"),
        ({"layers": (4, 12)}, "from 1 to 11"),
        ({"layers": 0}, "from 1 to 11"),
        ({"layers": "all"}, "layers=all"),
        ({"branch": "cnn"}, "mlp, vit"),
        ({"depths": 3}, "depths"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("multi_exit", **{**NARROW, **keywords})
