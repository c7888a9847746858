"""Tests of networks/plain_vit.py, and of what all networks on its frame have in common."""

import copy

import pytest
import timm
import torch
from networks.cases import agree, images, narrow
from networks.owners import owners, reductions
from timm.optim import create_optimizer_v2
from torch import nn

from lfvit_cli.networks.plain_vit import PlainViT
from lfvit_cli.networks.stages import stage_names

MODELS = (
    "dynamicvit_deit_tiny",
    "evo_deit_tiny_patch16_224",
    "evit_deit_tiny",
    "topk_deit_tiny",
    "evit_tr_deit_tiny",
    "random_deit_tiny",
    "pool_deit_tiny",
    "stvit_deit_tiny",
)
# Modules that only training uses, or that only choose.
WITHOUT_GRADIENT = {
    "dynamicvit_deit_tiny": {"score_predictor"},
    "evo_deit_tiny_patch16_224": {"norm_cls", "head_cls"},
}
BATCH = images(3, 64)
SIZE = {"img_size": 64, "embed_dim": 24, "num_heads": 3, "num_classes": 5}


@torch.inference_mode()
def test_is_timms_deit() -> None:
    """By itself, the frame is timm's DeiT: the same parameters, the same answers."""
    network = PlainViT(**SIZE).eval()
    plain = timm.create_model("deit_tiny_patch16_224", **SIZE).eval()
    network.load_state_dict(plain.state_dict())
    assert agree(network(BATCH), plain(BATCH))


def test_starts_as_vision_transformers_do() -> None:
    """Class token, positions and linear weights are drawn with a deviation of 0.02, biases are zero."""
    torch.manual_seed(0)
    network = PlainViT(img_size=64, embed_dim=384)
    for parameter in (network.cls_token, network.pos_embed, network.blocks[3].mlp.fc1.weight, network.head.weight):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.15)
    assert not network.blocks[3].attn.qkv.bias.any()


@pytest.mark.parametrize("model", MODELS)
@torch.inference_mode()
def test_answers_do_not_depend_on_companions(model: str) -> None:
    """An image alone has the answer and the tokens that it has in a batch."""
    network = narrow(model, img_size=64)
    together = network.answer(BATCH)
    assert reductions(together)
    for row in range(3):
        alone = network.answer(BATCH[row : row + 1])
        assert agree(alone.logits[0], together.logits[row])
        for one, all_of_them in zip(reductions(alone), reductions(together), strict=True):
            assert one.name == all_of_them.name
            assert torch.equal(one.owner[0], all_of_them.owner[row])


@pytest.mark.parametrize("model", MODELS)
@torch.inference_mode()
def test_copies_in_other_precisions(model: str) -> None:
    """A copy in float64 has the same answers; one in bfloat16 answers from as many tokens, and so does autocast."""
    network = narrow(model, img_size=64)
    output = network.answer(BATCH)
    double = copy.deepcopy(network).to(torch.float64)(BATCH.double())
    assert double.dtype == torch.float64
    assert agree(double.float(), output.logits)
    half = copy.deepcopy(network).bfloat16().answer(BATCH.bfloat16())
    assert half.logits.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network.answer(BATCH)
    for other in (half, mixed):
        assert bool(other.logits.isfinite().all())
        shapes = [owners(trace).shape for trace in reductions(other)]
        assert shapes == [owners(trace).shape for trace in reductions(output)]


@pytest.mark.parametrize("side", [96, 160])
@pytest.mark.parametrize("model", MODELS)
@torch.inference_mode()
def test_other_image_sizes(model: str, side: int) -> None:
    """Images of other sizes run, and traces have their grid."""
    output = narrow(model, img_size=side).answer(images(1, side))
    assert output.logits.shape == (1, 5)
    assert {trace.owner.shape for trace in reductions(output)} == {(1, side // 16, side // 16)}


@pytest.mark.parametrize("model", MODELS)
def test_gradients_flow(model: str) -> None:
    """The cross entropy reaches every parameter but those that a hard choice, or inference, does without."""
    network = narrow(model, img_size=96, drop_path_rate=0.1).train()
    nn.functional.cross_entropy(network(images(3, 96)), torch.arange(3)).backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert {name.partition(".")[0] for name in still} == WITHOUT_GRADIENT.get(model, set())


@pytest.mark.parametrize("model", MODELS)
def test_one_stage_and_its_layers(model: str) -> None:
    """It answers in one stage, with the image size it says; under layer decay the first block learns slowest."""
    network = narrow(model, img_size=64)
    assert stage_names(network) == ("full",)
    assert (network.image_size, network.num_classes, network.num_features) == (64, 5, 24)
    assert network.pretrained_cfg["input_size"] == (3, 64, 64)
    assert network.no_weight_decay() < {name for name, _ in network.named_parameters()}
    optimizer = create_optimizer_v2(network, opt="sgd", lr=1.0, layer_decay=0.5)
    groups = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    scales = {name: groups[id(weight)]["lr_scale"] for name, weight in network.named_parameters()}
    assert scales["head.weight"] == 1.0
    assert scales["blocks.11.mlp.fc1.weight"] == 0.5
    assert scales["blocks.0.mlp.fc1.weight"] == 0.5**12
    assert scales["pos_embed"] == 0.5**13
