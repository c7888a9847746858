"""Tests of networks/staged.py."""

from collections.abc import Sequence

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.cases import images, narrow
from torch import Tensor, nn

from lfvit_cli.networks.errors import KeywordError
from lfvit_cli.networks.lf_vit import FocusOutput, LocationOutput
from lfvit_cli.networks.staged import (
    PrunedOutput,
    SingleStage,
    StagedNetwork,
    StageOutput,
    confidence,
    early_exit,
)


class ThreeStages(nn.Module):
    """A staged network small enough to follow by hand: each stage is a linear layer on the mean colour."""

    stages = ("coarse", "middle", "fine")
    image_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 4) for _ in self.stages)
        for parameter in self.layers.parameters():
            nn.init.normal_(parameter, std=2.0)
        self.ran: list[int] = []

    def answer(self, stage: int, images: Tensor) -> Tensor:
        """(B, 4) logits of one stage."""
        logits: Tensor = self.layers[stage](images.mean(dim=(2, 3)))
        return logits

    def begin(self, images: Tensor) -> PrunedOutput:
        """The first stage; its state is the number of the next."""
        self.ran = [len(images)]
        return PrunedOutput(self.answer(0, images), (torch.ones(len(images), dtype=torch.long),))

    def resume(self, images: Tensor, state: StageOutput) -> PrunedOutput:
        """The stage that the state names."""
        assert isinstance(state, PrunedOutput)
        assert len(state.kept[0]) == len(images)
        stage = int(state.kept[0][0])
        self.ran.append(len(images))
        return PrunedOutput(self.answer(stage, images), (state.kept[0] + 1,))


@pytest.fixture(scope="module")
def staged() -> ThreeStages:
    """A network of three stages."""
    torch.manual_seed(0)
    return ThreeStages().requires_grad_(False)


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """Twenty images of 2 x 2 pixels."""
    return images(20, 2)


OUTPUTS = (
    StageOutput(torch.arange(12.0).view(4, 3)),
    PrunedOutput(torch.arange(12.0).view(4, 3), (torch.arange(8).view(4, 2), torch.arange(4).view(4, 1))),
    LocationOutput(torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 3)),
    FocusOutput(torch.randn(4, 3), None, torch.arange(8).view(4, 2), torch.arange(4).view(4, 1), 7),
)


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: type(output).__name__)
@pytest.mark.parametrize("mask", [[True, False, False, True], [False] * 4, [True] * 4], ids=str)
def test_outputs_are_indexed_by_mask_and_by_indices(output: StageOutput, mask: list[bool]) -> None:
    """A mask and the indices it is true at choose the same rows of every field, tuples included; the rest stays."""
    chosen, rows = torch.tensor(mask), torch.tensor(mask).nonzero().squeeze(1)
    for name, value in vars(output).items():
        for part in (output[chosen], output[rows]):
            found = getattr(part, name)
            if isinstance(value, Tensor):
                assert torch.equal(found, value[chosen])
            elif isinstance(value, tuple):
                assert all(torch.equal(f, v[chosen]) for f, v in zip(found, value, strict=True))
            else:
                assert found == value
    assert type(output[chosen]) is type(output)


def test_confidence_is_the_largest_probability() -> None:
    """Confidence is the softmax's maximum, in float32 even for bfloat16 logits."""
    assert confidence(torch.tensor([[0.0, 0.0], [0.0, 100.0]])).tolist() == [0.5, 1.0]
    assert confidence(torch.zeros(1, 4, dtype=torch.bfloat16)).dtype == torch.float32


@settings(deadline=None)
@given(thresholds=st.lists(st.floats(0, 1.1), min_size=2, max_size=2))
def test_each_image_is_answered_at_the_first_stage_that_is_sure(thresholds: list[float]) -> None:
    """Over three stages with a threshold each, the batch is the simulation image by image, and no more runs."""
    torch.manual_seed(0)
    network, pictures = ThreeStages().requires_grad_(False), images(20, 2)
    answer = early_exit(network, pictures, thresholds)
    stages = [network.answer(stage, pictures) for stage in range(3)]
    for row in range(len(pictures)):
        sure = [bool(confidence(stages[i][row]) >= thresholds[i]) for i in range(2)]
        first = sure.index(True) if any(sure) else 2
        assert answer.exit_stage[row] == first
        assert torch.allclose(answer.logits[row], stages[first][row], atol=1e-6)
    assert torch.equal(answer.exited, answer.exit_stage < 2)
    entered = [int((answer.exit_stage >= stage).sum()) for stage in range(3)]
    assert network.ran == [rows for rows in entered if rows]


def test_a_confidence_at_the_threshold_exits(staged: ThreeStages, batch: Tensor) -> None:
    """Reaching the threshold is enough: with it set at each image's own confidence, that image exits."""
    confidences = confidence(staged.answer(0, batch))
    for row, threshold in enumerate(confidences.tolist()):
        assert early_exit(staged, batch, threshold).exit_stage[row] == 0


def test_one_threshold_serves_all_stages(staged: ThreeStages, batch: Tensor) -> None:
    """A single threshold is that of every stage that can exit."""
    once, each = early_exit(staged, batch, 0.8), early_exit(staged, batch, (0.8, 0.8))
    assert torch.equal(once.logits, each.logits)
    assert 0 < once.exited.sum() < len(batch)


@pytest.mark.parametrize("thresholds", [(), (0.5,), (0.5, 0.5, 0.5)])
def test_as_many_thresholds_as_exits(staged: ThreeStages, batch: Tensor, thresholds: Sequence[float]) -> None:
    """Too few or too many thresholds are refused with the stages named."""
    with pytest.raises(KeywordError, match=r"stages coarse, middle, fine.*every stage but the last: 2"):
        early_exit(staged, batch, thresholds)


def test_an_answer_that_is_not_a_number_goes_on(staged: ThreeStages, batch: Tensor) -> None:
    """A NaN confidence reaches no threshold, not even zero."""
    broken = torch.where(torch.arange(20)[:, None, None, None] == 3, torch.nan, batch)
    answer = early_exit(staged, broken, 0.0)
    assert answer.exit_stage.tolist() == [0, 0, 0, 2] + [0] * 16


def test_an_empty_batch_runs(staged: ThreeStages, batch: Tensor) -> None:
    """No images, no answers, no error."""
    answer = early_exit(staged, batch[:0], 0.5)
    assert answer.logits.shape == (0, 4)
    assert staged.ran == [0]


@torch.inference_mode()
def test_single_stage_answers_as_its_model() -> None:
    """A plain classifier is a network of the one stage ``full``, which no image exits and nothing resumes."""
    model = timm.create_model("test_resnet", num_classes=5).eval()
    network, pictures = SingleStage(model, 64), images(3, 64)
    answer = early_exit(network, pictures, 0.0)
    assert torch.equal(answer.logits, model(pictures))
    assert torch.equal(network(pictures), model(pictures))
    assert answer.exited.tolist() == [False] * 3
    with pytest.raises(NotImplementedError):
        network.resume(pictures, network.begin(pictures))


@pytest.mark.parametrize("name", ["lf_deit_tiny", "dynamicvit_deit_tiny", "evo_deit_tiny_patch16_224"])
def test_networks_satisfy_the_protocol(name: str) -> None:
    """Every network here is a StagedNetwork as it is; a plain timm model is not."""
    assert isinstance(narrow(name), StagedNetwork)
    assert isinstance(SingleStage(nn.Identity(), 224), StagedNetwork)
    assert not isinstance(timm.create_model("test_vit"), StagedNetwork)
