"""Tests of networks/ragged_vit.py: what ATS, A-ViT and SPViT have in common."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from networks.cases import Case, agree, close, golden_case, images, narrow
from networks.owners import reductions
from torch import Tensor, nn

from lfvit_cli.cost import count_macs
from lfvit_cli.networks.checkpoints import load_checkpoint
from lfvit_cli.networks.ragged_vit import RaggedOutput
from lfvit_cli.networks.stages import join_rows, stage_names, stages_of

# Narrow networks, for 49 patches, of which images drop different numbers.
NETWORKS: dict[str, dict[str, Any]] = {
    "ats": {"num_tokens": 30},
    "a_vit": {"gate_scale": 1.0, "gate_center": 2.0},
    "spvit": {},
}
BATCH = images(3, 112)


@pytest.fixture(params=["ats_197", "ats_three_blocks", "a_vit", "spvit"])
def case(request: pytest.FixtureRequest) -> Case:
    """Each golden case of a method that takes images different numbers of tokens."""
    return golden_case(request.param)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    """A narrow network of each method."""
    return narrow(f"{request.param}_deit_tiny", img_size=112, **NETWORKS[request.param])


def same(found: RaggedOutput, expected: RaggedOutput) -> bool:
    """Whether two answers are the same: logits to rounding, tokens exactly."""
    tokens = [(found.attended, expected.attended), (found.updated, expected.updated)]
    tokens += [(a.owner, b.owner) for a, b in zip(reductions(found), reductions(expected), strict=True)]
    return agree(found.logits, expected.logits) and all(torch.equal(a, b) for a, b in tokens)


@torch.inference_mode()
def test_golden_answers(case: Case, tmp_path: Path) -> None:
    """From a file in the published layout the logits are those of the reference, each image as if alone."""
    torch.save({"model": case.state}, tmp_path / "published.pth")
    network = case.bare_network()
    load_checkpoint(network, str(tmp_path / "published.pth"))
    assert agree(network(case.images), case.expected["logits"])


@torch.inference_mode()
def test_golden_images_alone(case: Case) -> None:
    """In a batch, where images have different numbers of tokens, each has the tokens and the answer it has alone."""
    network = case.network()
    together = network.answer(case.images)
    assert (together.updated.amax(dim=0) > together.updated.amin(dim=0)).any()
    alone = [network.answer(image.unsqueeze(0)) for image in case.images]
    assert same(join_rows(alone), together)


@torch.inference_mode()
def test_masked_is_the_same_as_dropped(case: Case) -> None:
    """In training, where nothing is dropped, answers are the same, from the same tokens."""
    network = case.network()
    dropped, masked = network.answer(case.images), network.train().answer(case.images)
    assert agree(masked.logits, dropped.logits)
    if case.model.startswith("a_vit"):
        # There, an image goes on although its class token has halted.
        assert (masked.attended >= dropped.attended).all()
    else:
        assert same(masked, dropped)


@torch.inference_mode()
def test_macs_of_an_image_are_those_counted(case: Case) -> None:
    """What each image's tokens say it costs is what is counted as it runs alone."""
    network = case.network()
    some = case.images[:2]
    macs = network.macs_of(network.answer(some))
    counted = [count_macs(network, stages_of(network)[0], image.unsqueeze(0), None) for image in some]
    assert macs.tolist() == counted


@torch.inference_mode()
def test_dropped_tokens_are_gone(case: Case) -> None:
    """What works token by token takes, in all, exactly the tokens that images have: the padding costs nothing."""
    network = case.network()
    ran: list[int] = []
    for block in network.blocks:
        block.mlp.register_forward_pre_hook(lambda _, args: ran.append(args[0].shape[:-1].numel()))
    output = network.answer(case.images)
    assert ran == output.updated.sum(dim=0).tolist()
    assert ran[-1] < ran[0]


@torch.inference_mode()
def test_copies_of_other_precision(network: Any) -> None:
    """A copy in float64 has the same answers from the same tokens; one in bfloat16 answers."""
    output = network.answer(BATCH)
    double = copy.deepcopy(network).to(torch.float64).answer(BATCH.double())
    assert double.logits.dtype == torch.float64
    assert close(double.logits.float(), output.logits, 1e-4)
    assert torch.equal(double.updated, output.updated)
    half = copy.deepcopy(network).bfloat16().answer(BATCH.bfloat16())
    assert half.logits.dtype == torch.bfloat16
    assert bool(half.logits.isfinite().all())


@torch.inference_mode()
def test_a_bad_image_spoils_no_other(network: Any) -> None:
    """What is no number in one image stays there."""
    spoilt = BATCH.clone()
    spoilt[1] = torch.nan
    found, expected = network(spoilt), network(BATCH)
    assert close(found[[0, 2]], expected[[0, 2]], 1e-4)


def test_gradients_flow(network: Any) -> None:
    """In training, the cross entropy reaches all of the backbone."""
    nn.functional.cross_entropy(network.train()(BATCH), torch.arange(3)).backward()
    still = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert not {name for name in still if not name.startswith("score_predictor")}


def test_one_stage(network: Any) -> None:
    """It answers in one stage, of which copies have their own."""
    assert stage_names(network) == ("full",)
    twin = copy.deepcopy(network)
    nn.init.zeros_(twin.head.weight)
    with torch.inference_mode():
        assert torch.equal(stages_of(twin)[0](BATCH, None).logits, twin.head.bias.expand(3, -1))


@torch.inference_mode()
def test_rows_of_an_output(network: Any) -> None:
    """Every tensor of an output has a row for each image."""
    output = network.answer(BATCH)
    assert {tensor.shape[0] for tensor in output.tensors()} == {3}
    depth = len(network.blocks)
    assert output.attended.shape == output.updated.shape == (3, depth)
    assert torch.equal(network.macs_of(output[1:2]), network.macs_of(output)[1:2])


def test_eps_of_the_backbones_norms(network: Any) -> None:
    """Logits do not pin it: DeiT's norms have 1e-6."""
    eps = {name: each.eps for name, each in network.named_modules() if isinstance(each, nn.LayerNorm)}
    own = {name: value for name, value in eps.items() if not name.startswith("score_predictor")}
    assert len(own) == 25
    assert set(own.values()) == {1e-6}


@pytest.mark.parametrize("method", NETWORKS)
@torch.inference_mode()
def test_exported_for_any_batch(method: str) -> None:
    """An exported network masks what it cannot drop, and so answers batches of any size."""
    network = narrow(f"{method}_deit_tiny", img_size=112, depth=4, **NETWORKS[method])

    class Answer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Tensor) -> Tensor:
            answer: Tensor = self.network.answer(pixels).logits
            return answer

    sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    exported = torch.export.export(Answer().eval(), (BATCH,), dynamic_shapes=sizes).module()
    for batch in (images(5, 112, seed=1), images(1, 112, seed=2)):
        assert close(exported(batch), network(batch), 1e-4)
