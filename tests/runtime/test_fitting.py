"""A stage that runs out of memory is halved, and what was answered is kept."""

import pytest
import torch
from networks.three_stages import SIDE, Coarse, ThreeStages, three_stages
from torch import Tensor

from lfvit_cli.networks.stages import Output
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime.fitting import FittingStage
from lfvit_cli.runtime.runner import Runner


class Greedy:
    """Asks for 32 petabytes for every image beyond some number."""

    def __init__(self, most: int) -> None:
        self.most, self.rows = most, list[int]()

    def __call__(self, images: Tensor, state: Output | None) -> Output:
        """The mean colour as logits, and the state's logits added."""
        torch.empty(max(0, len(images) - self.most) * 2**55, dtype=torch.uint8)
        self.rows.append(len(images))
        logits = images.mean(dim=(2, 3))
        return Output(logits if state is None else logits + state.logits)


@pytest.mark.parametrize(("most", "limit", "ran"), [(100, None, [11]), (6, 5, [5, 5, 1]), (1, 1, [1] * 11)])
def test_as_few_parts_as_fit(most: int, limit: int | None, ran: list[int]) -> None:
    """The allocation really fails; what ran before stays answered; the next batch starts with what fitted."""
    greedy = Greedy(most)
    stage, images = FittingStage(greedy), torch.rand(11, 3, 4, 4)
    state = Output(torch.rand(11, 3))
    answer = stage(images, state)
    assert stage.limit == limit
    assert greedy.rows == ran
    torch.testing.assert_close(answer.logits, images.mean(dim=(2, 3)) + state.logits)
    greedy.rows.clear()
    stage(images, state)
    assert greedy.rows == ran


def test_not_even_one_row() -> None:
    """Is an error of its own."""
    with pytest.raises(RuntimeError, match="allocate memory"):
        FittingStage(Greedy(0))(torch.rand(4, 3, 2, 2), None)


def test_other_errors_are_not_taken_for_it() -> None:
    """They come through at once."""

    def broken(_images: Tensor, _state: None) -> Output:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        FittingStage(broken)(torch.rand(4, 3, 2, 2), None)


class ShortOfMemory(ThreeStages):
    """The middle stage has no memory for more than two rows."""

    def later(self, stage: int, images: Tensor, state: Coarse) -> Coarse:
        """A later stage."""
        torch.empty(max(0, len(images) - 2) * (stage == 1) * 2**55, dtype=torch.uint8)
        return super().later(stage, images, state)


def test_a_runner_names_the_stage_that_ran_in_parts() -> None:
    """Only the middle one of three: the other answers stand, and the exit is the same."""
    images = torch.rand(6, 3, SIDE, SIDE)
    torch.manual_seed(0)
    runner = Runner(ShortOfMemory().requires_grad_(False), torch.device("cpu"), torch.float32)
    output = runner(images, ExitPolicy.at(2.0))
    assert runner.limits == {"middle": 1}
    torch.testing.assert_close(output.logits, three_stages()(images))
