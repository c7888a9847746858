"""Tests of networks/stages.py: one walk over any number of stages."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.cases import images
from networks.three_stages import NAMES, SIDE, ThreeStages, three_stages
from torch import Tensor, nn

from lfvit_cli.errors import NetworkError, PolicyError
from lfvit_cli.networks.exits import measure
from lfvit_cli.networks.stages import Output, Stage, join_rows, stage_names, stages_of, walk
from lfvit_cli.policies import Criterion, ExitPolicy

BATCH = images(20, SIDE)
THRESHOLDS = {
    Criterion.CONFIDENCE: st.floats(0, 1.1),
    Criterion.MARGIN: st.floats(0, 1.1),
    Criterion.ENTROPY: st.floats(0, 1.5),
    Criterion.TOP10_ENTROPY: st.floats(0, 1.5),
}


@settings(deadline=None)
@given(data=st.data(), criterion=st.sampled_from(Criterion))
def test_each_image_is_answered_at_the_first_stage_that_is_sure(data: st.DataObject, criterion: Criterion) -> None:
    """Over three stages with a threshold each, the batch is the simulation image by image, and no more runs."""
    network = three_stages()
    thresholds = data.draw(st.tuples(THRESHOLDS[criterion], THRESHOLDS[criterion]))
    answer = walk(stages_of(network), BATCH, ExitPolicy(criterion=criterion, thresholds=thresholds))
    ran = list(network.ran)
    alone = [output.logits for output in walk(stages_of(network), BATCH).outputs]
    for row in range(len(BATCH)):
        sure = [
            bool(criterion.exits(measure(criterion, alone[stage][row : row + 1]), thresholds[stage])[0])
            for stage in range(2)
        ]
        first = sure.index(True) if any(sure) else 2
        assert answer.exit_stage[row] == first
        assert torch.allclose(answer.logits[row], alone[first][row], atol=1e-5)
    assert torch.equal(answer.exited, answer.exit_stage < 2)
    entered = [int((answer.exit_stage >= stage).sum()) for stage in range(3)]
    assert ran == [(name, rows) for name, rows in zip(NAMES, entered, strict=True) if rows]
    assert answer.answered(3) == [int((answer.exit_stage == stage).sum()) for stage in range(3)]


def test_only_the_rows_that_go_on_are_prepared() -> None:
    """The middle stage prepares what enters it, once."""
    network = three_stages()
    answer = walk(stages_of(network), BATCH, ExitPolicy.at(0.8))
    going_on = int((answer.exit_stage > 0).sum())
    assert 0 < going_on < len(BATCH)
    assert network.prepared == [going_on]


def test_without_a_policy_every_stage_runs_on_every_image() -> None:
    """And every stage's output is there."""
    network = three_stages()
    answer = walk(stages_of(network), BATCH)
    assert [len(output.logits) for output in answer.outputs] == [20, 20, 20]
    assert torch.equal(answer.logits, network(BATCH))
    assert answer.exit_stage.tolist() == [2] * 20
    assert walk(stages_of(network), BATCH, ExitPolicy.at(2.0)).outputs == ()


def test_a_value_at_the_threshold_exits_by_confidence_and_goes_on_by_entropy() -> None:
    """Confidence exits at or above; entropy strictly below."""
    network = three_stages()
    logits = network.coarse(BATCH).logits
    for criterion, exits in ((Criterion.CONFIDENCE, True), (Criterion.ENTROPY, False)):
        for row, value in enumerate(measure(criterion, logits).tolist()):
            answer = walk(stages_of(network), BATCH[row : row + 1], ExitPolicy.at(value, criterion=criterion))
            assert (int(answer.exit_stage[0]) == 0) is exits


@pytest.mark.parametrize("thresholds", [(), (0.5, 0.5, 0.5)])
def test_as_many_thresholds_as_exits(thresholds: tuple[float, ...]) -> None:
    """Too few or too many thresholds are refused with the stages named."""
    with pytest.raises(PolicyError, match=r"stages coarse, middle, fine.*every stage but the last: 2"):
        walk(stages_of(three_stages()), BATCH, ExitPolicy.at(*thresholds))


@pytest.mark.parametrize(("criterion", "threshold"), [("confidence", 0.0), ("entropy", 100.0)])
def test_an_answer_that_is_not_a_number_goes_on(criterion: str, threshold: float) -> None:
    """Not even a threshold that all others reach lets it exit."""
    broken = torch.where(torch.arange(20)[:, None, None, None] == 3, torch.nan, BATCH)
    answer = walk(stages_of(three_stages()), broken, ExitPolicy.at(threshold, criterion=criterion))
    assert answer.exit_stage.tolist() == [0, 0, 0, 2] + [0] * 16


def test_an_empty_batch_runs() -> None:
    """No images, no answers, no error."""
    answer = walk(stages_of(three_stages()), BATCH[:0], ExitPolicy.at(0.5))
    assert answer.logits.shape == (0, 4)
    assert answer.answered(3) == [0, 0, 0]


def test_a_copy_in_another_precision_runs_its_own_stages() -> None:
    """Stages are asked anew of every copy: in float64 none of them runs on the old network's weights."""
    double = copy.deepcopy(three_stages()).to(torch.float64)
    answer = walk(stages_of(double), BATCH.double())
    assert answer.logits.dtype == torch.float64
    torch.testing.assert_close(answer.logits, three_stages()(BATCH).double(), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_plain_classifier_is_the_one_stage_full() -> None:
    """Which no image exits; also where the model has an attribute of the name ``stages``."""
    for name in ("test_resnet", "test_convnext"):
        model = timm.create_model(name, num_classes=5).eval()
        pictures = images(3, 64)
        answer = walk(stages_of(model), pictures, ExitPolicy.at(0.0))
        assert stage_names(model) == ("full",)
        assert torch.equal(answer.logits, model(pictures))
        assert answer.exited.tolist() == [False] * 3


class Wrong(nn.Module):
    """A network whose stages are whatever it is given."""

    def __init__(self, given: object) -> None:
        super().__init__()
        self.given = given

    def stages(self) -> object:
        """What was given."""
        return self.given


def _run(images: Tensor, _: Output | None) -> Output:
    return Output(images)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("location", "focus"), "returns no tuple of Stage"),
        ((), "returns no tuple of Stage"),
        ((Stage("a", _run), Stage("a", _run)), "two stages of one name"),
    ],
)
def test_stages_that_are_none_are_refused(given: object, words: str) -> None:
    """With the network's class named."""
    with pytest.raises(NetworkError, match=f"Wrong.*{words}"):
        stages_of(Wrong(given))


def test_rows_are_split_and_joined_again() -> None:
    """Tensors row after row; what is no tensor stays."""
    network = three_stages()
    whole = network.coarse(BATCH)
    joined = join_rows([whole[:7], whole[7:7], whole[7:]])
    assert isinstance(network, ThreeStages)
    assert torch.equal(joined.logits, whole.logits)
    assert torch.equal(joined.mark, whole.mark)
    assert joined.factor == whole.factor
