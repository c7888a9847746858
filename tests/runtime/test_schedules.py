"""Whatever the schedule, each image is answered as in the plain forward, and in order."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.narrow import CPU, narrow, photos, rerun

from lfvit_cli.networks.staged import SingleStage, early_exit
from lfvit_cli.runtime import schedules
from lfvit_cli.runtime.errors import RuntimeSettingError
from lfvit_cli.runtime.runner import Execution, Runner
from lfvit_cli.runtime.schedules import Schedule, ScheduleName, check_schedule
from lfvit_cli.runtime.stopwatch import Stopwatch

NETWORK, PHOTOS = narrow(), photos(21)
BATCHES = list(PHOTOS.split(4))
RUNNER = Runner(NETWORK, CPU, torch.float32)
CONFIDENCES = RUNNER.first_confidences(PHOTOS, 4).sort().values


def threshold_for(going_on: int) -> float:
    """A threshold that lets so many of the images go on."""
    bounds = torch.cat((torch.zeros(1), CONFIDENCES, torch.tensor([2.0])))
    return float(bounds[going_on : going_on + 2].mean())


@settings(max_examples=40, deadline=None)
@given(
    going_on=st.integers(0, 21),
    later_batch=st.one_of(st.none(), st.integers(1, 30)),
    patience=st.integers(1, 8),
    recorded=st.booleans(),
)
def test_queued_answers_are_those_of_each_batch_alone(
    going_on: int, later_batch: int | None, patience: int, recorded: bool
) -> None:
    """Exits bit for bit, and the same answers, for any share of exits, any batch of the focus and any patience."""
    runner = Runner(NETWORK, CPU, torch.float32, Execution(capture=rerun)) if recorded else RUNNER
    threshold = threshold_for(going_on)
    answers = Schedule("queued", later_batch, patience).answer(runner, BATCHES, threshold)
    with torch.inference_mode():
        expected = [early_exit(NETWORK, batch, threshold) for batch in BATCHES]
    assert [len(answer.logits) for answer in answers] == [len(batch) for batch in BATCHES]
    for answer, plain in zip(answers, expected, strict=True):
        assert torch.equal(answer.exit_stage, plain.exit_stage)
        assert torch.equal(answer.exited, plain.exited)
        torch.testing.assert_close(answer.logits, plain.logits, rtol=1e-4, atol=1e-4)
    assert sum(int((~answer.exited).sum()) for answer in answers) == going_on


def test_bfloat16_predictions_are_those_of_the_plain_forward() -> None:
    """Wherever the confidence is further than 1e-3 from the threshold."""
    runner, batches = Runner(NETWORK, CPU, torch.bfloat16), [batch.bfloat16() for batch in BATCHES]
    threshold = threshold_for(11)
    near = (runner.first_confidences(PHOTOS.bfloat16(), 4) - threshold).abs() <= 1e-3
    with torch.inference_mode():
        plain = torch.cat([early_exit(runner.network, batch, threshold).logits for batch in batches])  # type: ignore[arg-type]
    queued = torch.cat([answer.logits for answer in Schedule("queued", 3).answer(runner, batches, threshold)])
    assert torch.equal(queued.argmax(1)[~near], plain.argmax(1)[~near])


@pytest.mark.parametrize("going_on", [0, 1, 9, 21])
@pytest.mark.parametrize("patience", [2, 16])
def test_a_device_is_rarely_waited_for(monkeypatch: pytest.MonkeyPatch, going_on: int, patience: int) -> None:
    """Where counting is not free, it is done about once for each batch of the focus, and the answers are the same."""
    counts = []
    monkeypatch.setattr(schedules, "counting_is_free", lambda _device: False)
    count = schedules._Queue._count

    def counted(queue: schedules._Queue) -> None:
        counts.append(1)
        count(queue)

    monkeypatch.setattr(schedules._Queue, "_count", counted)
    runner = Sizes(NETWORK, CPU, torch.float32)
    runner.seen = []
    batches, threshold = BATCHES * 4, threshold_for(going_on)
    answers = Schedule("queued", 8, patience).answer(runner, batches, threshold)
    with torch.inference_mode():
        expected = [early_exit(NETWORK, batch, threshold) for batch in batches]
    for answer, plain in zip(answers, expected, strict=True):
        assert torch.equal(answer.exit_stage, plain.exit_stage)
        torch.testing.assert_close(answer.logits, plain.logits, rtol=1e-4, atol=1e-4)
    focused = sum(stage == "focus" for stage, _ in runner.seen)
    overdue = len(batches) // patience
    assert len(counts) <= focused + overdue + 2


class Sizes(Runner):
    """Notes the rows of each stage's batches."""

    def begin(self, images: torch.Tensor):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """The first stage."""
        self.seen.append(("location", len(images)))
        return super().begin(images)

    def resume(self, images, state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """The second."""
        self.seen.append(("focus", len(images)))
        return super().resume(images, state)

    seen: list[tuple[str, int]] = []  # noqa: RUF012


def test_the_focus_runs_on_full_batches_and_the_rest_at_the_end() -> None:
    """Ten images that go on, in batches of four: two full ones and the two that are left."""
    runner = Sizes(NETWORK, CPU, torch.float32)
    runner.seen = []
    Schedule("queued", 4).answer(runner, BATCHES, threshold_for(10))
    assert [rows for stage, rows in runner.seen if stage == "focus"] == [4, 4, 2]
    assert [rows for stage, rows in runner.seen if stage == "location"] == [4, 4, 4, 4, 4, 1]


def test_no_image_waits_for_more_batches_than_it_may() -> None:
    """With patience for one more batch, a focus that would never fill runs anyway."""
    runner = Sizes(NETWORK, CPU, torch.float32)
    runner.seen = []
    Schedule("queued", 100, patience=1).answer(runner, BATCHES, 2.0)
    waited = 0
    for stage, _ in runner.seen:
        waited = 0 if stage == "focus" else waited + 1
        assert waited <= 2


def test_answers_come_as_soon_as_they_are_complete() -> None:
    """A batch of which all exit does not wait for the end of the stream, but never overtakes one before it."""
    answers = Schedule("queued", 4).answers(RUNNER, BATCHES, 0.0)
    with torch.inference_mode():
        first = next(answers)
    assert bool(first.exited.all())


def test_one_stage_runs_the_same_under_both() -> None:
    """A plain classifier has nothing to queue for."""
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    classifier(PHOTOS[:1])
    runner = Runner(SingleStage(classifier, 224), CPU, torch.float32)
    immediate, queued = (Schedule(name).answer(runner, BATCHES, 0.5) for name in get_args(ScheduleName))
    for one, other in zip(immediate, queued, strict=True):
        assert torch.equal(one.logits, other.logits)


def test_queued_is_for_two_stages() -> None:
    """More are told, with what to do."""
    check_schedule("immediate", ("a", "b", "c"), "net")
    check_schedule("queued", ("a", "b"), "net")
    with pytest.raises(RuntimeSettingError, match="net has the stages a, b, c, and the queued"):
        check_schedule("queued", ("a", "b", "c"), "net")


def test_phases_are_timed_under_a_queue_too() -> None:
    """By the same names."""
    watch = Stopwatch(CPU)
    Schedule("queued", 4).answer(RUNNER, BATCHES, 2.0, watch)
    assert set(watch.seconds()) == {"location", "focus", "exit", "selection"}
