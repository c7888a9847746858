"""Tests of networks/evo_vit.py."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import EVO_VIT, agree, close, full_class_attention, golden_case, images, narrow
from networks.owners import owners, reductions
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint

TINY = "evo_deit_tiny_patch16_224"


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """Four images of 64 pixels a side."""
    return images(4, 64)


@pytest.mark.parametrize("name", EVO_VIT)
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From a file in the published layout, the answer is the authors', in both selection modes."""
    case = golden_case(name)
    torch.save({"model": case.state}, tmp_path / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "published.pth"))
    assert agree(network(case.images), case.expected["logits"])


@pytest.mark.parametrize(("selection", "selections"), [("stage", 2), ("layer", 8)])
@torch.inference_mode()
def test_half_of_the_patches_is_kept_at_each_selection(batch: Tensor, selection: str, selections: int) -> None:
    """Per stage there are two selections, per layer eight; each keeps half of the patches."""
    output = narrow(TINY, selection=selection, img_size=64).answer(batch)
    assert [owners(trace).shape for trace in reductions(output)] == [(4, 8)] * selections


@torch.inference_mode()
def test_the_first_selection_follows_layer_3s_class_attention(batch: Tensor) -> None:
    """The patches kept are the top half by the sum over heads of the class row of the whole attention matrix."""
    network = narrow(TINY, img_size=64)
    projections: list[Tensor] = []
    network.qks[3].qk.register_forward_hook(lambda _, __, output: projections.append(output))
    kept = owners(reductions(network.answer(batch))[0])
    query, key = projections[0].chunk(2, dim=-1)
    attention = full_class_attention(query, key, num_heads=3).sum(dim=1)
    assert torch.equal(kept, attention.topk(8, dim=1).indices.sort(dim=1).values)


@torch.inference_mode()
def test_keeping_all_is_deit_with_mean_pooling(batch: Tensor) -> None:
    """With keep_ratio 1 the network is timm's mean-pooled VisionTransformer with the same, merged, weights."""
    network = narrow(TINY, keep_ratio=1.0, img_size=64)
    plain = timm.create_model(
        "deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5, global_pool="avg"
    ).eval()
    plain.load_state_dict(_merged(network.state_dict()))
    assert close(network(batch), plain(batch))


def _merged(split: dict[str, Tensor]) -> dict[str, Tensor]:
    """Evo-ViT's published layout, with query-key and value apart, as timm's."""
    merged = {key: value for key, value in split.items() if key.startswith(("cls_token", "pos_", "patch_", "head."))}
    merged |= {f"fc_norm.{kind}": split[f"norm.{kind}"] for kind in ("weight", "bias")}
    for layer in range(12):
        for kind in ("weight", "bias"):
            parts = (split[f"qks.{layer}.qk.{kind}"], split[f"vs.{layer}.v.{kind}"])
            merged[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
            merged[f"blocks.{layer}.attn.proj.{kind}"] = split[f"projs.{layer}.{kind}"]
            merged[f"blocks.{layer}.norm1.{kind}"] = split[f"norms.{layer}.{kind}"]
    return merged | {key: value for key, value in split.items() if key.startswith("blocks.")}


@torch.inference_mode()
def test_only_kept_patches_run_after_the_first_selection(batch: Tensor) -> None:
    """The MLPs see all 17 tokens in layers 0 to 3, and class token and half of the patches from there on."""
    network = narrow(TINY, img_size=64)
    tokens: list[int] = []
    for block in network.blocks:
        block.mlp.register_forward_hook(lambda _, __, output: tokens.append(output.shape[1]))
    network(batch)
    assert tokens == [17] * 4 + [9] * 8


@torch.inference_mode()
def test_training_heads_do_not_answer(batch: Tensor) -> None:
    """The class token's norm and head change no answer at inference."""
    network = narrow(TINY, img_size=64)
    before = network(batch)
    network.head_cls.weight.fill_(7.0)
    network.norm_cls.weight.fill_(7.0)
    assert torch.equal(network(batch), before)


@pytest.mark.parametrize("side", [32, 112, 384])
@torch.inference_mode()
def test_any_image_size(side: int) -> None:
    """Images of any multiple of the patch size run; an odd number of patches keeps the smaller half."""
    output = narrow(TINY, img_size=side).answer(images(1, side))
    assert output.logits.shape == (1, 5)
    assert owners(reductions(output)[0]).shape == (1, (side // 16) ** 2 // 2)


@torch.inference_mode()
def test_a_shallow_network_selects_nothing(batch: Tensor) -> None:
    """With four layers there is nothing left to select for."""
    output = narrow(TINY, depth=4, img_size=64).answer(batch)
    assert output.traces == ()
    assert output.logits.shape == (4, 5)


@torch.inference_mode()
def test_answers_do_not_depend_on_companions(batch: Tensor) -> None:
    """Selecting before every layer, too, an image alone has the answer and the patches that it has in a batch."""
    network = narrow(TINY, selection="layer", img_size=64)
    together = network.answer(batch)
    for row in range(4):
        alone = network.answer(batch[row : row + 1])
        assert agree(alone.logits[0], together.logits[row])
        pairs = zip(reductions(alone), reductions(together), strict=True)
        assert all(torch.equal(one.owner[0], all_of_them.owner[row]) for one, all_of_them in pairs)


def test_eps_of_every_norm() -> None:
    """All norms have DeiT's 1e-6."""
    norms = [each for each in narrow(TINY).modules() if isinstance(each, nn.LayerNorm)]
    assert len(norms) == 26
    assert {each.eps for each in norms} == {1e-6}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"selection": "never"}, "Use one of stage, layer"),
        ({"keep_ratio": 0.0}, "keeps 0 of 196"),
        ({"keep_ratio": 1.5}, "keep_ratio=1.5"),
        ({"img_size": 100}, "multiple of the patch size"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model(TINY, **keywords)
