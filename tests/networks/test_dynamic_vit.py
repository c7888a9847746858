"""Tests of networks/dynamic_vit.py."""

from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.cases import DYNAMIC_VIT, close, golden_case, images, narrow
from torch import Tensor

from lfvit_cli.networks.dynamic_vit import ScorePredictor, kept_counts
from lfvit_cli.networks.errors import KeywordError
from lfvit_cli.networks.staged import StageOutput


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """Four images of 64 pixels a side."""
    return images(4, 64)


@pytest.mark.parametrize("name", DYNAMIC_VIT)
@torch.inference_mode()
def test_golden(name: str) -> None:
    """The answer is the authors', from exactly the same patches after each pruning."""
    case = golden_case(name)
    output = case.network().begin(case.images)
    assert close(output.logits, case.expected["logits"])
    assert len(output.kept) == 3
    for pruning, kept in enumerate(output.kept):
        assert torch.equal(kept, case.expected[f"kept_{pruning}"])


def test_published_counts() -> None:
    """At rho = 0.7 the prunings leave 137, 96 and 67 of 196 patches."""
    with torch.device("meta"):
        assert timm.create_model("dynamicvit_deit_small").kept_counts == (137, 96, 67)


@torch.inference_mode()
def test_keeping_all_is_deit(batch: Tensor) -> None:
    """With every ratio 1 the network is timm's DeiT with the same weights."""
    network = narrow("dynamicvit_deit_tiny", token_ratio=(1.0, 1.0, 1.0), img_size=64)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if key in plain.state_dict()})
    assert close(network(batch), plain(batch))


@torch.inference_mode()
def test_each_pruning_keeps_some_of_those_before(batch: Tensor) -> None:
    """Kept patches are ascending indices on the grid, and each pruning's are a part of the one before's."""
    output = narrow("dynamicvit_deit_tiny", img_size=64).begin(batch)
    assert [kept.shape for kept in output.kept] == [(4, 11), (4, 7), (4, 5)]
    for row in range(4):
        first, second, third = (kept[row].tolist() for kept in output.kept)
        assert sorted(set(first)) == first
        assert set(third) < set(second) < set(first) < set(range(16))


@torch.inference_mode()
def test_the_best_scored_patches_are_kept(batch: Tensor) -> None:
    """The first pruning keeps the patches that its predictor scores highest in column 0."""
    network = narrow("dynamicvit_deit_tiny", img_size=64)
    scores: list[Tensor] = []
    network.score_predictor[0].register_forward_hook(lambda _, __, output: scores.append(output[..., 0]))
    kept = network.begin(batch).kept[0]
    assert torch.equal(kept, scores[0].topk(11, dim=1).indices.sort(dim=1).values)


def test_dropped_patches_are_gone(batch: Tensor) -> None:
    """The blocks run on class token and kept patches alone."""
    network = narrow("dynamicvit_deit_tiny", img_size=64)
    tokens: list[int] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, output: tokens.append(output.shape[1]))
    network(batch)
    assert tokens == [17] * 3 + [12] * 3 + [8] * 3 + [6] * 3


@torch.inference_mode()
def test_predictor_scores_are_log_probabilities() -> None:
    """Keeping and dropping a patch have probabilities that sum to one."""
    scores = ScorePredictor(24)(torch.randn(2, 9, 24))
    assert scores.shape == (2, 9, 2)
    assert close(scores.exp().sum(dim=-1), torch.ones(2, 9), 1e-6)


@torch.inference_mode()
def test_answers_do_not_depend_on_companions(batch: Tensor) -> None:
    """An image alone has the answer and the patches that it has in a batch."""
    network = narrow("dynamicvit_deit_tiny", img_size=64)
    together = network.begin(batch)
    for row in range(len(batch)):
        alone = network.begin(batch[row : row + 1])
        assert close(alone.logits[0], together.logits[row])
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone.kept, together.kept, strict=True))


@pytest.mark.parametrize("side", [32, 96, 160])
@torch.inference_mode()
def test_any_image_size(side: int) -> None:
    """Images of any multiple of the patch size run, and the counts follow."""
    network = narrow("dynamicvit_deit_tiny", img_size=side)
    output = network.begin(images(1, side))
    assert output.logits.shape == (1, 5)
    assert tuple(kept.shape[1] for kept in output.kept) == network.kept_counts


@torch.inference_mode()
def test_bfloat16(batch: Tensor) -> None:
    """In bfloat16 the network runs and keeps as many patches."""
    output = narrow("dynamicvit_deit_tiny", img_size=64).bfloat16().begin(batch.bfloat16())
    assert output.logits.dtype == torch.bfloat16
    assert [kept.shape[1] for kept in output.kept] == [11, 7, 5]


def test_gradients_flow(batch: Tensor) -> None:
    """All weights but the predictors' get a gradient; a hard choice passes none on to them."""
    network = narrow("dynamicvit_deit_tiny", img_size=64).train()
    network(batch).square().sum().backward()
    still = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert still == {name for name, _ in network.named_parameters() if name.startswith("score_predictor")}


def test_has_one_stage(batch: Tensor) -> None:
    """As a staged network it answers at once, and nothing resumes."""
    network = narrow("dynamicvit_deit_tiny", img_size=64)
    assert network.stages == ("full",)
    with pytest.raises(NotImplementedError):
        network.resume(batch, StageOutput(torch.zeros(4, 5)))
    assert network.no_weight_decay() < {name for name, _ in network.named_parameters()}


@settings(deadline=None)
@given(st.integers(1, 600), st.integers(1, 10))
def test_counts_are_those_of_exact_arithmetic(patches: int, tenths: int) -> None:
    """Powers of a ratio written in tenths leave int(N * ratio) patches, whatever floats make of it."""
    ratios = [(tenths / 10) ** power for power in (1, 2, 3)]
    exact = tuple(patches * tenths**power // 10**power for power in (1, 2, 3))
    if exact[-1] == 0:
        with pytest.raises(KeywordError, match="keep"):
            kept_counts(patches, ratios)
    else:
        assert kept_counts(patches, ratios) == exact


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"keep_ratio": 0.0}, "ratios above 0"),
        ({"keep_ratio": 1.1}, "at most 1"),
        ({"token_ratio": (0.5, 0.7, 0.3)}, "none larger than the one before"),
        ({"token_ratio": (0.5, 0.3)}, "2 token ratios were given for 3 pruning layers"),
        ({"pruning_layers": (3, 12), "token_ratio": (0.5, 0.3)}, "from 0 to 11"),
        ({"pruning_layers": (6, 3)}, "ascending"),
        ({"img_size": 100}, "images of 100 pixels"),
        ({"embed_dim": 33}, "even"),
        ({"num_heads": 0}, "num_heads=0"),
    ],
)
def test_values_that_describe_no_network(keywords: dict[str, Any], words: str) -> None:
    """Impossible values are refused in words that name the value or the remedy."""
    with pytest.raises(KeywordError, match=words):
        timm.create_model("dynamicvit_deit_tiny", **keywords)
