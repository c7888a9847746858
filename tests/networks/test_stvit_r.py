"""Tests of networks/stvit_r.py and networks/semantic_layers.py."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks.cases import agree, golden_case, images, narrow
from networks.owners import reductions
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from lfvit_cli.cost import count_stages
from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.method import method_of
from lfvit_cli.networks.semantic_layers import neighbourhoods, pool
from lfvit_cli.networks.swin_layers import from_windows

GOLDEN = ("stvit_r_swin", "stvit_r_swin_steps")
SMALL = "stvit_r_swin_small"
BATCH = images(3, 224)


def small(**keywords: Any) -> Any:
    """A narrow network with one dumbbell, and lively weights."""
    return narrow(SMALL, **({"embed_dim": 8, "num_heads": (1, 2, 4, 8), "depths": (1, 2, 6, 1)} | keywords))


def golden_network(name: str, folder: Path, **more: Tensor) -> Any:
    """A case's network, with the case's weights loaded from a file in the published layout."""
    case = golden_case(name)
    torch.save({"model": case.state | more}, folder / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(folder / "published.pth"))
    return network


@pytest.mark.parametrize("name", GOLDEN)
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From the published file, with the buffers that a real one has, the answer is the authors'."""
    case = golden_case(name)
    buffers = {
        "layers.0.blocks.1.attn_mask": torch.ones(64, 49, 49),
        "layers.0.blocks.1.attn.relative_position_index": torch.ones(49, 49),
        "patch_embed.proj.0.bn.num_batches_tracked": torch.tensor(5),
    }
    network = golden_network(name, tmp_path, **buffers)
    assert agree(network(case.images), case.expected["logits"])


@torch.inference_mode()
def test_golden_steps(tmp_path: Path) -> None:
    """So is what comes out of the stem, of every stage, and of all six layers of the first dumbbell."""
    case, network = golden_case("stvit_r_swin_steps"), golden_network("stvit_r_swin_steps", tmp_path)
    steps = {"patch_embed": network.patch_embed} | {f"stage_{i}": stage for i, stage in enumerate(network.layers)}
    steps |= {f"stage_2_block_{i}": network.layers[2].blocks[i] for i in range(6)}
    found: dict[str, Tensor] = {}
    for name, module in steps.items():
        module.register_forward_hook(lambda _, __, output, name=name: found.setdefault(name, output))
    network(case.images)
    assert {f"{name}_first4" for name in found} == {name for name in case.expected if name.endswith("first4")}
    for name, tokens in found.items():
        if tokens.shape[1] == 36:
            # Window after window; the figures are in raster order.
            tokens = from_windows(tokens.unflatten(1, (4, 9)).flatten(0, 1), 6, 3)
        tokens = tokens.flatten(1, 2) if tokens.ndim == 4 else tokens
        assert agree(tokens[:, :4], case.expected[f"{name}_first4"]), name
        assert agree(tokens.mean(dim=1), case.expected[f"{name}_token_mean"]), name


@pytest.mark.parametrize(
    ("name", "ours", "published", "params"),
    [("small", 5_641_298_688, 5_823_581_952, 49_625_518), ("base", 9_937_257_472, 10_260_517_888, 87_812_336)],
)
def test_macs(name: str, ours: int, published: int, params: int) -> None:
    """The authors' count exactly; ours is 3.1 % less, as overlapping neighbourhoods are projected once."""
    network = timm.create_model(f"stvit_r_swin_{name}").eval()
    (row,) = count_stages("", network)
    assert (row.macs, row.published_macs, row.params) == (ours, published, params)
    assert sum(parameter.numel() for parameter in network.parameters()) == params


def test_golden_macs() -> None:
    """The authors' arithmetic counts what fvcore counted on their golden network."""
    case = golden_case("stvit_r_swin")
    assert case.bare_network().published_macs() == {"full": case.macs["total"]}


@torch.inference_mode()
def test_pooling_is_adaptive() -> None:
    """The maxima that adaptive pooling takes in each window."""
    maps = torch.randn(2, 14, 14, 5)
    windows = [
        F.adaptive_max_pool2d(maps[:, row : row + 7, column : column + 7].permute(0, 3, 1, 2), 3).flatten(2)
        for row in (0, 7)
        for column in (0, 7)
    ]
    assert torch.equal(pool(maps), torch.cat(windows, dim=2).transpose(1, 2))


def test_neighbourhoods() -> None:
    """Nine tokens of the window, then 10 x 10 patches from row and column 0 or 4 on."""
    seen = neighbourhoods()
    assert seen.shape == (4, 109)
    assert seen[2, :9].tolist() == list(range(18, 27))
    starts = [36 + 14 * row + column for row in (0, 4) for column in (0, 4)]
    assert seen[:, 9].tolist() == starts
    assert seen[:, -1].tolist() == [start + 9 * 14 + 9 for start in starts]


@torch.inference_mode()
def test_trace_shows_the_semantic_tokens() -> None:
    """36 of them, 3 x 3 in each window of 7 x 7 patches, of which those on a border belong to the first."""
    (trace,) = reductions(small().answer(BATCH))
    cell = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5])
    assert torch.equal(trace.owner, (6 * cell.unsqueeze(1) + cell).expand(3, -1, -1))
    assert trace.name == "layer 4"


@torch.inference_mode()
def test_answers_do_not_depend_on_companions() -> None:
    """An image alone has the answer that it has in a batch."""
    network = small()
    together = network(BATCH)
    for row in range(3):
        assert agree(network(BATCH[row : row + 1])[0], together[row])


@torch.inference_mode()
def test_a_copy_runs_in_double_precision() -> None:
    """And answers the same."""
    network = small()
    double = copy.deepcopy(network).to(torch.float64)
    assert agree(double(BATCH.double()).float(), network(BATCH))


def test_eps_and_scales() -> None:
    """Every norm has PyTorch's 1e-5, and branches of semantic layers start near zero."""
    network = timm.create_model(SMALL, embed_dim=8, num_heads=(1, 2, 4, 8), depths=(1, 2, 6, 1))
    norms = [each for each in network.modules() if isinstance(each, nn.LayerNorm | nn.BatchNorm2d)]
    assert {each.eps for each in norms} == {1e-5}
    assert len(norms) == 26
    scales = [value for name, value in network.named_parameters() if ".layer_scale_" in name]
    assert len(scales) == 10
    assert all(bool((scale == 1e-5).all()) for scale in scales)


def test_starts_from_its_own() -> None:
    """No plain ViT's parameter has a place here."""
    method = method_of(SMALL)
    assert method is not None
    assert method.from_vit is not None
    assert method.from_vit(small(), {"norm.weight": torch.zeros(64)}) == {}
    assert "STViT-R" in method.starts_from


def test_layers_for_layer_decay() -> None:
    """The stem, every layer in order, the merging with the last of its stage, then norm and head."""
    network = small()
    groups = list(group_parameters(network, network.group_matcher()).values())
    assert len(groups) == 1 + 10 + 1
    assert all(name.startswith(("layers.0.blocks.0.", "layers.0.downsample.")) for name in groups[1])
    assert "layers.0.downsample.norm.weight" in groups[1]
    assert all(name.startswith("layers.1.blocks.0.") for name in groups[2])
    assert set(groups[-1]) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert "layers.0.blocks.0.attn.relative_position_bias_table" in network.no_weight_decay()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"img_size": 384}, "Give images of 224"),
        ({"window_size": 12}, "Give 7"),
        ({"depths": (2, 2, 7, 2)}, "dumbbells. Give a multiple of 6"),
        ({"depths": (2, 2, 6)}, "Give four"),
        ({"num_heads": 3}, "num_heads=3"),
        ({"num_heads": (3, 2, 4, 8)}, "num_heads=3"),
        ({"embed_dim": 7}, "even"),
        ({"multi_scale": "other"}, "multi_scale=other .* only multi_scale=multi_scale_semantic_token1"),
        ({"use_conv_pos": True}, "use_conv_pos"),
        ({"shortcut": True}, "shortcut"),
        ({"use_global": True}, "use_global"),
        ({"relative_pos": True}, "relative_pos"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        small(**keywords)
