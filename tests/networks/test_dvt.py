"""Tests of networks/dvt.py and networks/dvt_part.py."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, close, golden_case, images, narrow
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import CheckpointError, KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.dvt import DVT, METHOD, PARTS
from lfvit_cli.networks.dvt_part import Regrid
from lfvit_cli.networks.stages import stage_names, stages_of, walk
from lfvit_cli.policies import ExitPolicy

CASES = ("dvt_deit", "dvt_deit_feature_only")
GRIDS = ("7x7", "10x10", "14x14")
SHALLOW: dict[str, Any] = {"depth": 2}


@pytest.fixture(scope="module")
def network() -> Any:
    """A narrow network of two blocks a part."""
    return narrow("dvt_deit_tiny", **SHALLOW)


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """Three images of 224 pixels a side."""
    return images(3, 224)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From a file in the published layout, every exit answers as the released implementation's does."""
    case = golden_case(name)
    file = tmp_path / "published.pth"
    torch.save({"model": case.state}, file)
    network = case.bare_network()
    load_checkpoint(network, str(file))
    assert stage_names(network) == GRIDS
    for grid, output in zip(GRIDS, walk(stages_of(network), case.images).outputs, strict=True):
        assert agree(output.logits, case.expected[f"logits_{grid}"])
    assert agree(network(case.images), case.expected["logits_14x14"])


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_golden_early_exit(name: str) -> None:
    """At the case's two thresholds each image leaves at the same exit, with the same answer."""
    case = golden_case(name)
    walked = walk(stages_of(case.network()), case.images, ExitPolicy.at(*case.thresholds))
    assert torch.equal(walked.exit_stage, case.expected["exit_stage"])
    assert set(walked.exit_stage.tolist()) == {0, 1, 2}
    assert torch.equal(walked.exited, case.expected["exit_stage"] < 2)
    assert agree(walked.logits, case.expected["early_exit_logits"])


@pytest.mark.parametrize("name", CASES)
def test_golden_macs(name: str) -> None:
    """The published arithmetic is fvcore's count of the released network, which has one norm and head in all."""
    case = golden_case(name)
    macs = case.bare_network().published_macs()
    heads = [tokens * 5 * 48 + 48 * 10 for tokens in (50, 101)]
    first, second, third = macs.values()
    assert list(macs) == list(GRIDS)
    assert first == case.macs["exit_7x7"]
    assert first + second - heads[0] == case.macs["exit_10x10"]
    assert first + second + third - sum(heads) == case.macs["exit_14x14"]


def test_small_macs() -> None:
    """DVT-S costs what METHODS.md says by the authors' arithmetic, and less as it runs, for the reasons named."""
    network = timm.create_model("dvt_deit_small").eval()
    rows = count_stages("dvt", network)
    assert sum(parameter.numel() for parameter in network.parameters()) == 70_442_232
    assert [row.published_macs for row in rows] == [
        1_145_309_952,
        3_655_841_664 - 1_145_309_952 + 480_000,
        8_842_725_696 - 3_655_841_664 + 1_057_920 - 480_000,
    ]
    maps = 12 * 6
    saved = [49 * 5 * 384]
    for old, new in ((7, 10), (10, 14)):
        before, after = 1 + old**2, 1 + new**2
        doubled, interpolated = 8 * old**2, new * old + new**2
        # The norm of all tokens but one; features of the class token; and grids, interpolated instead of pooled.
        saved.append(
            new**2 * 5 * 384
            + 12 * (5 * 384 + 384 * 128 + 128 * 48)
            + 12 * 48 * (doubled - interpolated)
            + maps * (before + after) * (doubled - interpolated)
        )
    assert [row.published_macs - row.macs for row in rows if row.published_macs] == saved
    assert min(saved) > 0


@pytest.mark.parametrize(("old", "new"), [(7, 10), (10, 14), (7, 14), (14, 28), (3, 10), (5, 6), (4, 4), (1, 2)])
@torch.inference_mode()
def test_regridding_is_doubling_and_pooling(old: int, new: int) -> None:
    """Along any dimension, the closed form is nearest-neighbour doubling and adaptive average pooling."""
    regrid = Regrid(old, new)
    features = torch.randn(2, old**2, 3)
    maps = features.transpose(1, 2).unflatten(2, (old, old))
    pooled = F.adaptive_avg_pool2d(F.interpolate(maps, scale_factor=2, mode="nearest"), new)
    assert close(regrid(features, 1), pooled.flatten(2).transpose(1, 2), 1e-6)
    assert close(regrid(features.transpose(1, 2), 2), pooled.flatten(2), 1e-6)
    assert regrid.state_dict() == {}


@torch.inference_mode()
def test_relations_are_regridded_for_keys_and_queries() -> None:
    """A relation between two patches goes to the pairs of finer ones; the class token's row and column stay apart."""
    regrid = Regrid(2, 4)
    logits = torch.randn(1, 3, 5, 5)
    found = regrid.relations(logits)
    # On a grid twice as fine every cell has four copies, and no other.
    copies = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3])
    places = torch.cat((torch.tensor([0]), copies + 1))
    assert close(found, logits[:, :, places][..., places], 1e-6)


@torch.inference_mode()
def test_the_first_part_is_deit(network: Any, batch: Tensor) -> None:
    """The first exit is timm's DeiT with 32-pixel patches and the same weights."""
    plain = VisionTransformer(patch_size=32, embed_dim=24, num_heads=3, depth=2, num_classes=5).eval()
    plain.load_state_dict(network.less_less_token.state_dict())
    assert agree(walk(stages_of(network), batch).outputs[0].logits, plain(batch))


@torch.inference_mode()
def test_without_reuse_all_parts_are_deits(batch: Tensor) -> None:
    """With nothing reused, each exit is a DeiT of its own, the second on the image padded by three pixels."""
    network = narrow("dvt_deit_tiny", feature_reuse=False, relation_reuse=False, **SHALLOW)
    outputs = walk(stages_of(network), batch).outputs
    for output, name, patch, seen in zip(
        outputs, PARTS, (32, 23, 16), (batch, F.pad(batch, (3,) * 4), batch), strict=True
    ):
        plain = VisionTransformer(seen.shape[-1], patch, embed_dim=24, num_heads=3, depth=2, num_classes=5).eval()
        plain.load_state_dict(getattr(network, name).state_dict())
        assert agree(output.logits, plain(seen))


@pytest.mark.parametrize(("features", "relations"), [(True, False), (False, True), (False, False)])
@torch.inference_mode()
def test_each_reuse_reaches_the_later_exits(batch: Tensor, features: bool, relations: bool) -> None:
    """Another weight in the first part's last block moves both later exits by either reuse, and without, neither."""
    network = narrow("dvt_deit_tiny", feature_reuse=features, relation_reuse=relations, **SHALLOW)
    before = walk(stages_of(network), batch).outputs
    network.less_less_token.blocks[1].attn.qkv.weight.mul_(1.5)
    after = walk(stages_of(network), batch).outputs
    moved = [not agree(new.logits, old.logits) for new, old in zip(after, before, strict=True)]
    assert moved == [True, features or relations, features or relations]


@torch.inference_mode()
def test_answers_do_not_depend_on_companions(network: Any, batch: Tensor) -> None:
    """An image alone has the answers that it has in a batch."""
    together = walk(stages_of(network), batch).outputs
    for row in range(3):
        alone = walk(stages_of(network), batch[row : row + 1]).outputs
        assert all(agree(one.logits[0], all_.logits[row]) for one, all_ in zip(alone, together, strict=True))


@torch.inference_mode()
def test_copies_of_other_precision(network: Any, batch: Tensor) -> None:
    """A copy in float64 has the same answers, and one in bfloat16 answers."""
    logits = network(batch)
    assert agree(copy.deepcopy(network).to(torch.float64)(batch.double()).float(), logits)
    half = copy.deepcopy(network).bfloat16()(batch.bfloat16())
    assert half.dtype == torch.bfloat16
    assert agree(half.float(), logits, 0.2)


@pytest.mark.parametrize("name", CASES)
def test_what_logits_do_not_pin(name: str) -> None:
    """Every LayerNorm has 1e-6, the reuse norms too; hidden and reused widths are 128 and 48 at every width."""
    network = timm.create_model("dvt_deit_tiny", **golden_case(name).keywords)
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 3 * 25 + 2 * 12
    assert {norm.eps for norm in norms} == {1e-6}
    reuse = timm.create_model("dvt_deit_base", depth=1).normal_token.blocks[0].feature_resuse_mlp[1]
    assert (reuse.fc1.out_features, reuse.fc2.out_features) == (128, 48)


def test_gradients_flow(batch: Tensor) -> None:
    """The cross entropy reaches every parameter but those of features that only patches of the last block get."""
    network = narrow("dvt_deit_tiny", drop_path_rate=0.1, **SHALLOW).train()
    outputs = walk(stages_of(network), batch).outputs
    torch.stack([F.cross_entropy(output.logits, torch.arange(3)) for output in outputs]).mean().backward()
    still = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert still == {name for name, _ in network.named_parameters() if "normal_token.blocks.1.feature_resuse" in name}


def test_only_what_is_reused_is_handed_on(network: Any, batch: Tensor) -> None:
    """Without relation reuse no attention logits are kept, and the last part keeps none in any case."""
    outputs: Any = walk(stages_of(network), batch).outputs
    assert [None if each.relations is None else tuple(each.relations.shape) for each in outputs] == [
        (3, 6, 50, 50),
        (3, 6, 101, 101),
        None,
    ]
    without: Any = walk(stages_of(narrow("dvt_deit_tiny", relation_reuse=False, **SHALLOW)), batch).outputs
    assert all(each.relations is None for each in without)


def test_layers_for_the_optimizer(network: Any) -> None:
    """The names left undecayed are parameters, and layer decay knows the stem and the blocks of every part."""
    names = {name for name, _ in network.named_parameters()}
    assert network.no_weight_decay() < names
    assert len(network.no_weight_decay()) == 6
    layers = timm.models.group_parameters(network, network.group_matcher(), reverse=True)
    for part in PARTS:
        assert layers[f"{part}.patch_embed.proj.weight"] == layers[f"{part}.pos_embed"] == 0
        assert layers[f"{part}.blocks.1.mlp.fc1.weight"] == layers[f"{part}.blocks.0.mlp.fc1.weight"] + 1
    assert layers["normal_token.head.weight"] == max(layers.values())


@torch.inference_mode()
def test_starts_from_a_plain_vit(batch: Tensor) -> None:
    """A plain DeiT fills every part: patches and positions resampled, and nothing reused."""
    network = timm.create_model("dvt_deit_tiny", embed_dim=24, num_heads=3, num_classes=4, depth=2).eval()
    plain = timm.create_model("deit_tiny_patch16_224", embed_dim=24, num_heads=3, num_classes=5, depth=2).eval()
    assert METHOD.from_vit is not None
    found = METHOD.from_vit(network, plain.state_dict())
    outcome = network.load_state_dict(found, strict=False)
    assert not outcome.unexpected_keys
    left = {key.partition(".")[2] for key in outcome.missing_keys}
    assert {key for key in left if key.startswith("head.")} == {"head.weight", "head.bias"}
    assert all(key.startswith(("head.", "relation_reuse_conv.0.")) or ".feature_resuse_mlp." in key for key in left)
    assert torch.equal(network.normal_token.patch_embed.proj.weight, plain.patch_embed.proj.weight)
    assert torch.equal(network.less_token.blocks[1].mlp.fc1.weight[:, :24], plain.blocks[1].mlp.fc1.weight)
    assert not network.less_token.relation_reuse_conv[2].weight.any()
    before: Any = walk(stages_of(network), batch).outputs[0]
    assert not network.less_token._features(network.less_token.blocks[0], before).any()


def test_files_of_other_families_are_refused(tmp_path: Path) -> None:
    """A DeiT's file is not DVT's, and the other way round."""
    file = tmp_path / "dvt.pth"
    torch.save({"model": golden_case("dvt_deit").state}, file)
    with pytest.raises(CheckpointError, match="holds DVT weights"):
        load_checkpoint(timm.create_model("deit_tiny_patch16_224"), str(file))


@pytest.mark.parametrize("side", [64, 96, 160])
@torch.inference_mode()
def test_other_sizes(side: int) -> None:
    """Other images and patches run, and the grids follow."""
    network = narrow("dvt_deit_tiny", img_size=side, patch_sizes=(32, 16, 8), **SHALLOW)
    assert network.grids == (side // 32, side // 16, side // 8)
    assert network(images(2, side)).shape == (2, 5)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"patch_sizes": (32, 16)}, "Give three sizes"),
        ({"patch_sizes": 16}, "Give three sizes"),
        ({"patch_sizes": (32, 0, 16)}, "Give three sizes"),
        ({"patch_sizes": (16, 23, 32)}, "finer than the one before"),
        ({"patch_sizes": (32, 16, 16)}, "finer than the one before"),
        ({"patch_sizes": (32, 25, 16)}, "cannot be padded evenly to patches of 25"),
        ({"reuse_width": 0}, "reuse_width=0"),
        ({"reuse_hidden": 0}, "feature_reuse=False"),
        ({"depth": 0}, "depth=0"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        DVT(**{"embed_dim": 24, "num_heads": 3, "num_classes": 5, **keywords})
