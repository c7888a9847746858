"""A recorded stage answers as the stage does, at the few shapes it is recorded at."""

import pytest
import torch
from runtime.narrow import narrow, photos, rerun

from lfvit_cli.networks.stages import stages_of
from lfvit_cli.runtime.graphs import GraphedStage, cuda_capture, rounded_up


@pytest.mark.parametrize(
    ("rows", "size"), [(1, 1), (2, 2), (3, 4), (17, 32), (32, 32), (33, 64), (65, 96), (200, 224), (256, 256)]
)
def test_few_shapes_are_recorded(rows: int, size: int) -> None:
    """Powers of two up to 32, then multiples of 32."""
    assert rounded_up(rows) == size


@torch.inference_mode()
def test_fewer_rows_go_into_the_next_larger_recording() -> None:
    """Five, six and eight rows share one; the answers are those of the rows alone."""
    location, focus = stages_of(narrow())
    recordings = []

    def counted(work):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        recordings.append(work)
        return rerun(work)

    first, second = GraphedStage(location.__call__, counted), GraphedStage(focus.__call__, counted)
    for rows in (5, 8, 6):
        images = photos(8)[:rows]
        state, expected = first(images, None), location(images, None)
        torch.testing.assert_close(state.logits, expected.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(second(images, state).logits, focus(images, expected).logits, rtol=1e-4, atol=1e-4)
    assert len(recordings) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_cuda_graphs_answer_as_the_stage_does() -> None:
    """On a GPU, replayed with other images than it was recorded with."""
    location, _ = stages_of(narrow().cuda())
    recorded = GraphedStage(location.__call__, cuda_capture)
    recorded(photos(4).cuda(), None)
    images = photos(8)[4:].cuda()
    torch.testing.assert_close(recorded(images, None).logits, location(images, None).logits, rtol=1e-3, atol=1e-3)
