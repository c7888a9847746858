"""Tests of the early exit in networks/lf_vit.py."""

import pytest
import torch
from networks.cases import LF_VIT, agree, close, golden_case, images, narrow
from torch import Tensor, nn

from lfvit_cli.networks.exits import confidence
from lfvit_cli.networks.lf_vit import LFViT
from lfvit_cli.networks.stages import Walk, stages_of, walk
from lfvit_cli.policies import ExitPolicy


@pytest.fixture(scope="module")
def network() -> LFViT:
    """A narrow LF-ViT of the default 7 x 7 grid."""
    made: LFViT = narrow("lf_deit_tiny")
    return made


@pytest.fixture(scope="module")
def batch() -> Tensor:
    """Eight images of 224 pixels a side."""
    return images(8, 224)


def leave(network: LFViT, batch: Tensor, threshold: float) -> Walk:
    """The early exit at a threshold."""
    return walk(stages_of(network), batch, ExitPolicy.at(threshold))


def count_rows(module: nn.Module) -> list[int]:
    """A list that grows by the number of rows each time the module runs."""
    rows: list[int] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows.append(len(inputs[0]))

    module.register_forward_pre_hook(note)
    return rows


@pytest.mark.parametrize("name", LF_VIT)
@torch.inference_mode()
def test_golden_early_exit(name: str) -> None:
    """At the case's threshold the same rows exit, and every row has the authors' answer."""
    case = golden_case(name)
    answer = leave(case.network(), case.images, case.threshold)
    assert torch.equal(answer.exited, case.expected["exited"])
    assert 0 < answer.exited.sum() < len(case.images)
    for row, expected in zip(answer.logits, case.expected["early_exit_logits"], strict=True):
        assert agree(row, expected)


@torch.inference_mode()
def test_rows_that_exit_never_enter_focus(network: LFViT, batch: Tensor) -> None:
    """The focus pass runs once, on exactly the rows below the threshold."""
    threshold = confidence(network.coarse(batch).logits).median().item()
    rows = count_rows(network.reuse_block)
    answer = leave(network, batch, threshold)
    assert rows == [int((~answer.exited).sum())]
    assert 0 < rows[0] < len(batch)
    assert torch.equal(answer.exit_stage, (~answer.exited).long())


@torch.inference_mode()
def test_pixels_of_rows_that_exit_are_read_by_location_alone(network: LFViT, batch: Tensor) -> None:
    """Exited rows' answers are location's own, and poisoned pixels of theirs reach no other row."""
    threshold = confidence(network.coarse(batch).logits).median().item()
    clean = leave(network, batch, threshold)
    location = network.coarse(batch)
    poisoned = torch.where(clean.exited[:, None, None, None], torch.nan, batch)
    going_on = ~clean.exited
    assert torch.equal(clean.logits[clean.exited], location.logits[clean.exited])
    assert close(network.fine(poisoned, location).logits[going_on], clean.logits[going_on])


@torch.inference_mode()
def test_threshold_at_most_zero_exits_all_and_focus_runs_nothing(network: LFViT, batch: Tensor) -> None:
    """A threshold every confidence reaches leaves the focus stage unrun: each block runs once."""
    focus_rows, trunk_rows = count_rows(network.reuse_block), count_rows(network.head)
    answer = leave(network, batch, 0.0)
    assert bool(answer.exited.all())
    assert (focus_rows, trunk_rows) == ([], [len(batch)])
    assert torch.equal(answer.logits, network.coarse(batch).logits)


@torch.inference_mode()
def test_threshold_above_one_exits_none(network: LFViT, batch: Tensor) -> None:
    """A threshold no confidence reaches sends every row through both stages."""
    answer = leave(network, batch, 1.01)
    assert not bool(answer.exited.any())
    assert close(answer.logits, network.fine(batch, network.coarse(batch)).logits)


@torch.inference_mode()
def test_early_exit_is_the_simulation_image_by_image(network: LFViT, batch: Tensor) -> None:
    """At every threshold between two confidences, a batch answers as each image does on its own."""
    alone = [network.coarse(image[None]) for image in batch]
    focused = [network.fine(image[None], location).logits for image, location in zip(batch, alone, strict=True)]
    confidences = torch.cat([confidence(location.logits) for location in alone])
    ranked = confidences.sort().values
    for threshold in ((ranked[1:] + ranked[:-1]) / 2).tolist():
        answer = leave(network, batch, threshold)
        stays = confidences >= threshold
        expected = [alone[i].logits if stays[i] else focused[i] for i in range(len(batch))]
        assert torch.equal(answer.exited, stays)
        assert close(answer.logits, torch.cat(expected))
