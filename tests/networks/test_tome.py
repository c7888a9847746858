"""Tests of networks/tome.py."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import Case, agree, close, golden_case, images, narrow
from torch import Tensor, nn

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.build import build
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.networks.tome import match, merge, merges_per_block


@pytest.fixture(params=["tome_r8", "tome_r13", "tome_decreasing"])
def case(request: pytest.FixtureRequest) -> Case:
    """Each golden case of ToMe."""
    return golden_case(request.param)


def together(owner: Tensor) -> Tensor:
    """(B, N) owners to (B, N, N): whether two patches share a token."""
    return owner[:, :, None] == owner[:, None, :]


@torch.inference_mode()
def test_golden_answers(case: Case, tmp_path: Path) -> None:
    """Logits, the groups after some blocks and at the end, and the tokens of every block, from a plain DeiT's file."""
    torch.save({"model": case.state}, tmp_path / "deit.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "deit.pth"))
    counts: list[int] = []
    for block in network.blocks:
        block.mlp.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].shape[1]))
    output = walk(stages_of(network), case.images).outputs[0]
    assert agree(output.logits, case.expected["logits"])
    assert counts == case.expected["tokens_per_block"].tolist()
    named = {trace.name: trace.owner.flatten(1) for trace in output.traces}  # type: ignore[attr-defined]
    seen = 0
    for key, groups in case.expected.items():
        if key.startswith(("group_", "final_group")):
            owner = (
                named[f"layer {key.removeprefix('group_')}"] if key.startswith("group_") else list(named.values())[-1]
            )
            assert torch.equal(together(owner), together(groups[:, 1:]))
            seen += 1
    assert seen >= 2


@pytest.mark.parametrize(
    ("spec", "macs"),
    [
        ("tome_deit_small:r=8", 3_428_157_824),
        ("tome_deit_small", 2_711_673_920),
        ("tome_deit_small:r=16", 2_298_405_248),
        ("tome_deit_small:r=(13,-1),schedule=inflect", 2_118_575_872),
    ],
)
def test_macs_at_full_size(spec: str, macs: int) -> None:
    """The authors' figure, to the last MAC."""
    assert [row.macs for row in count_stages(spec, build(spec))] == [macs]


@torch.inference_mode()
def test_merging_keeps_the_sum_of_all_tokens() -> None:
    """Means weighted by size: sizes add up to the tokens there were, and weighted tokens to their sum."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 11, 4, generator=generator, dtype=torch.float64)
    size = torch.randint(1, 5, (3, 11), generator=generator).double()
    moved, kept, partner = match(tokens, 4)
    merged, sizes, place = merge(tokens, size, moved, kept, partner)
    assert merged.shape == (3, 7, 4)
    assert torch.allclose((merged * sizes[..., None]).sum(1), (tokens * size[..., None]).sum(1))
    assert torch.equal(sizes.sum(1), size.sum(1))
    for row in range(3):
        for new in range(7):
            members = place[row] == new
            expected = (tokens[row] * size[row, :, None])[members].sum(0) / size[row][members].sum()
            assert torch.allclose(merged[row, new], expected)
    # The class token stays alone, in front.
    assert (place == 0).sum(1).tolist() == [1, 1, 1]


@torch.inference_mode()
def test_without_merging_it_is_the_backbone() -> None:
    """Of any plain vision transformer of timm's, layer scale and other sizes included."""
    for name, given in (("deit_tiny_patch16_224", {}), ("vit_tiny_patch16_384", {"img_size": 96})):
        keywords: dict[str, Any] = {"depth": 3, "embed_dim": 24, "num_heads": 3, "num_classes": 5, **given}
        plain = timm.create_model(name, **keywords).eval()
        network = timm.create_model("tome", backbone=name, r=0, **keywords).eval()
        network.load_state_dict(plain.state_dict())
        batch = images(2, network.image_size)
        assert close(network(batch), plain(batch), 1e-5)


@torch.inference_mode()
def test_an_image_is_answered_as_if_alone_in_any_precision() -> None:
    """Three at once are three times one; a copy in float64 agrees."""
    network, batch = narrow("tome_deit_tiny", depth=4), images(3, 224)
    answers = network(batch)
    assert close(answers, torch.cat([network(image[None]) for image in batch]), 1e-4)
    assert agree(copy.deepcopy(network).to(torch.float64)(batch.double()).float(), answers, 1e-4)


@torch.inference_mode()
def test_a_backbones_own_file(tmp_path: Path) -> None:
    """Any plain vision transformer's file is one for the network that merges its tokens."""
    plain = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64)
    torch.save(plain.state_dict(), tmp_path / "vit.pth")
    network = build("tome:backbone=vit_tiny_patch16_224,depth=2,img_size=64,r=3", checkpoint=str(tmp_path / "vit.pth"))
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in network.state_dict().items())
    assert network(images(2, 64)).shape == (2, 1000)


@torch.inference_mode()
def test_bfloat16() -> None:
    """In bfloat16 as many tokens merge, and sizes still add up."""
    network = narrow("tome_deit_tiny", img_size=64, r=3).bfloat16()
    output = network.answer(images(3, 64).bfloat16())
    assert output.logits.dtype == torch.bfloat16
    assert [int(trace.owner.max()) for trace in output.traces] == [13, 10, 7, 4, 2, 1]


def test_eps_of_every_norm() -> None:
    """Logits do not pin it: DeiT's norms have 1e-6."""
    network = narrow("tome_deit_tiny", img_size=64)
    eps = [module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert eps == [1e-6] * 25


def test_gradients_flow() -> None:
    """Merging passes gradients on to all weights."""
    network = narrow("tome_deit_tiny", img_size=64, r=2, depth=4).train()
    network(images(2, 64)).square().sum().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


@pytest.mark.parametrize(
    ("r", "schedule", "expected"),
    [
        (13, None, (13,) * 4),
        ((5, 3), None, (5, 3, 0, 0)),
        ((13, -1), "inflect", (26, 17, 8, 0)),
        ((13, 0), "inflect", (13, 13, 13, 13)),
        ((13, 1), "inflect", (0, 8, 17, 26)),
    ],
)
def test_schedules(r: Any, schedule: str | None, expected: tuple[int, ...]) -> None:
    """A number, a list filled up with zeros, or a pair that falls or rises."""
    assert merges_per_block(r, schedule, 4) == expected


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("tome:backbone=resnet18", "backbone=resnet18 is not a plain vision transformer"),
        ("tome:backbone=swin_tiny_patch4_window7_224", "is not a plain vision transformer"),
        ("tome:backbone=nothing_known", "is not a model of timm's"),
        ("tome:backbone=vit_small_patch16_dinov3", "backbone=vit_small_patch16_dinov3"),
        ("tome:backbone=vit_small_patch14_reg4_dinov2", "registers"),
        ("tome:backbone=beit3_base_patch16_224,depth=1", "not answer from the class token alone"),
        ("tome:backbone=deit_tiny_patch16_224,attn_layer=diff", "other attention than the usual"),
        ("tome_deit_tiny:r=-1", "r=-1 does not say how many"),
        ("tome_deit_tiny:r=(13,-1),schedule=falling", "schedule=falling is not a schedule"),
        ("tome_deit_tiny:r=(13,5),schedule=inflect", "does not say how many"),
        ("tome_deit_tiny:r=2.5", "does not say how many"),
        ("tome_deit_tiny:prop_attn=no", "prop_attn=no is neither True nor False"),
    ],
)
def test_values_that_describe_no_network(spec: str, words: str) -> None:
    """Are refused in words that name the value and the remedy."""
    with pytest.raises(KeywordError, match=words):
        build(spec)
