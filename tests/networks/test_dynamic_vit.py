"""Tests of networks/dynamic_vit.py; what its schedule is, test_token_schedule.py has."""

from pathlib import Path

import pytest
import timm
import torch
from networks.cases import DYNAMIC_VIT, agree, close, golden_case, images, narrow
from networks.owners import owners, reductions
from torch import Tensor, nn

from lfvit_cli.errors import KeywordError
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.dynamic_vit import ScorePredictor

BATCH = images(4, 64)


@pytest.mark.parametrize("name", DYNAMIC_VIT)
@torch.inference_mode()
def test_golden(name: str, tmp_path: Path) -> None:
    """From a file in the published layout, the answer is the authors', from exactly the same patches."""
    case = golden_case(name)
    torch.save({"model": case.state}, tmp_path / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "published.pth"))
    output = network.answer(case.images)
    assert agree(output.logits, case.expected["logits"])
    assert len(output.traces) == 3
    for pruning, trace in enumerate(reductions(output)):
        assert torch.equal(owners(trace), case.expected[f"kept_{pruning}"])


@torch.inference_mode()
def test_keeping_all_is_deit() -> None:
    """With every ratio 1 the network is timm's DeiT with the same weights."""
    network = narrow("dynamicvit_deit_tiny", token_ratio=(1.0, 1.0, 1.0), img_size=64)
    plain = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=24, num_heads=3, num_classes=5).eval()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if key in plain.state_dict()})
    assert close(network(BATCH), plain(BATCH))


@torch.inference_mode()
def test_each_pruning_keeps_some_of_those_before() -> None:
    """Each pruning's patches are a part of the one before's."""
    output = narrow("dynamicvit_deit_tiny", img_size=64).answer(BATCH)
    for row in range(4):
        first, second, third = (owners(trace)[row].tolist() for trace in reductions(output))
        assert set(third) < set(second) < set(first) < set(range(16))


@torch.inference_mode()
def test_the_best_scored_patches_are_kept() -> None:
    """The first pruning keeps the patches that its predictor scores highest in column 0."""
    network = narrow("dynamicvit_deit_tiny", img_size=64)
    scores: list[Tensor] = []
    network.score_predictor[0].register_forward_hook(lambda _, __, output: scores.append(output[..., 0]))
    first = reductions(network.answer(BATCH))[0]
    assert torch.equal(owners(first), scores[0].topk(11, dim=1).indices.sort(dim=1).values)


@torch.inference_mode()
def test_predictor_scores_are_log_probabilities() -> None:
    """Keeping and dropping a patch have probabilities that sum to one."""
    scores = ScorePredictor(24)(torch.randn(2, 9, 24))
    assert scores.shape == (2, 9, 2)
    assert close(scores.exp().sum(dim=-1), torch.ones(2, 9), 1e-6)


def test_eps_of_every_norm() -> None:
    """DeiT's norms have 1e-6, those of the predictors PyTorch's 1e-5."""
    network = narrow("dynamicvit_deit_tiny", img_size=64)
    eps = {name: each.eps for name, each in network.named_modules() if isinstance(each, nn.LayerNorm)}
    assert len(eps) == 25 + 3
    assert all(value == (1e-5 if name.startswith("score_predictor") else 1e-6) for name, value in eps.items())


def test_a_width_that_cannot_be_halved() -> None:
    """An odd width is refused, as the predictors halve it."""
    with pytest.raises(KeywordError, match="even"):
        timm.create_model("dynamicvit_deit_tiny", embed_dim=33)
