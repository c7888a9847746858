"""Whatever the schedule, each image is answered as in the plain walk, and in order."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.three_stages import SIDE, three_stages
from runtime.narrow import CPU, confidences, narrow, photos, plain, policy_for, rerun
from torch import Tensor

from lfvit_cli.networks.stages import EXIT, PREPARATION, Output, Walk
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime import schedules
from lfvit_cli.runtime.runner import Execution, Runner
from lfvit_cli.runtime.schedules import Schedule, ScheduleName
from lfvit_cli.runtime.stopwatch import Stopwatch

NETWORK, PHOTOS = narrow(), photos(21)
BATCHES = list(PHOTOS.split(4))
RUNNER = Runner(NETWORK, CPU, torch.float32)
CONFIDENCES = confidences(RUNNER, PHOTOS).sort().values
THREE = three_stages()
SMALL_BATCHES = list(torch.randn(45, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).split(4))


def check(answers: list[Walk], expected: list[Walk]) -> None:
    """The same exits bit for bit, and the same answers, batch by batch."""
    assert [len(answer.logits) for answer in answers] == [len(batch.logits) for batch in expected]
    for answer, alone in zip(answers, expected, strict=True):
        assert torch.equal(answer.exit_stage, alone.exit_stage)
        assert torch.equal(answer.exited, alone.exited)
        torch.testing.assert_close(answer.logits, alone.logits, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    going_on=st.integers(0, 21),
    later_batch=st.one_of(st.none(), st.integers(1, 30)),
    patience=st.integers(1, 8),
    recorded=st.booleans(),
)
def test_queued_answers_are_those_of_each_batch_alone(
    going_on: int, later_batch: int | None, patience: int, recorded: bool
) -> None:
    """For any share of exits, any batch of the focus and any patience."""
    runner = Runner(NETWORK, CPU, torch.float32, Execution(capture=rerun)) if recorded else RUNNER
    policy = policy_for(going_on, CONFIDENCES)
    answers = Schedule("queued", later_batch, patience).answer(runner, BATCHES, policy)
    check(answers, [plain(NETWORK, batch, policy) for batch in BATCHES])
    assert sum(int((~answer.exited).sum()) for answer in answers) == going_on


@settings(max_examples=60, deadline=None)
@given(
    thresholds=st.tuples(st.floats(0.2, 1.05), st.floats(0.2, 1.05)),
    later_batch=st.one_of(st.none(), st.integers(1, 30)),
    patience=st.integers(1, 8),
    recorded=st.booleans(),
    counting=st.booleans(),
)
def test_three_stages_have_a_queue_each(
    thresholds: tuple[float, float], later_batch: int | None, patience: int, recorded: bool, counting: bool
) -> None:
    """The answers are those of each batch alone, also where the host cannot count for free."""
    runner = Runner(THREE, CPU, torch.float32, Execution(capture=rerun) if recorded else Execution())
    policy = ExitPolicy.at(*thresholds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedules, "counting_is_free", lambda _device: counting)
        answers = Schedule("queued", later_batch, patience).answer(runner, SMALL_BATCHES, policy)
    check(answers, [plain(THREE, batch, policy) for batch in SMALL_BATCHES])


def test_every_later_stage_runs_on_full_batches_and_the_rest_at_the_end() -> None:
    """Of three stages, each by itself."""
    network = three_stages()
    runner = Runner(network, CPU, torch.float32)
    runner.network.ran.clear()  # type: ignore[operator, union-attr]
    policy = ExitPolicy.at(0.9, 0.9)
    answers = Schedule("queued", 5).answer(runner, SMALL_BATCHES, policy)
    ran: list[tuple[str, int]] = runner.network.ran  # type: ignore[assignment]
    stages = torch.cat([answer.exit_stage for answer in answers])
    for index, name in ((1, "middle"), (2, "fine")):
        rows = [count for stage, count in ran if stage == name]
        entered = int((stages >= index).sum())
        assert sum(rows) == entered > 5
        assert rows[:-1] == [5] * (len(rows) - 1)


def test_bfloat16_predictions_are_those_of_the_plain_forward() -> None:
    """Wherever the confidence is further than 1e-3 from the threshold."""
    runner, batches = Runner(NETWORK, CPU, torch.bfloat16), [batch.bfloat16() for batch in BATCHES]
    policy = policy_for(11, CONFIDENCES)
    near = (confidences(runner, PHOTOS.bfloat16()) - policy.thresholds[0]).abs() <= 1e-3
    alone = torch.cat([plain(runner.network, batch, policy).logits for batch in batches])
    queued = torch.cat([answer.logits for answer in Schedule("queued", 3).answer(runner, batches, policy)])
    assert torch.equal(queued.argmax(1)[~near], alone.argmax(1)[~near])


@pytest.mark.parametrize("going_on", [0, 1, 9, 21])
@pytest.mark.parametrize("patience", [2, 16])
def test_a_device_is_rarely_waited_for(monkeypatch: pytest.MonkeyPatch, going_on: int, patience: int) -> None:
    """Where counting is not free, it is done about once for each batch of the focus, and the answers are the same."""
    counts = []
    monkeypatch.setattr(schedules, "counting_is_free", lambda _device: False)
    count = schedules._Queue.count

    def counted(queue: schedules._Queue) -> None:
        counts.append(1)
        count(queue)

    monkeypatch.setattr(schedules._Queue, "count", counted)
    runner, seen = watched()
    batches, policy = BATCHES * 4, policy_for(going_on, CONFIDENCES)
    answers = Schedule("queued", 8, patience).answer(runner, batches, policy)
    check(answers, [plain(NETWORK, batch, policy) for batch in batches])
    focused = sum(stage == "focus" for stage, _ in seen)
    overdue = len(batches) // patience
    assert len(counts) <= focused + overdue + 2


def watched() -> tuple[Runner, list[tuple[str, int]]]:
    """A runner, and the rows of each stage's batches as they run."""
    runner, seen = Runner(NETWORK, CPU, torch.float32), list[tuple[str, int]]()

    def noting(name: str, run: Callable[..., Output]) -> Callable[[Tensor, Output | None], Output]:
        def noted(images: Tensor, state: Output | None) -> Output:
            seen.append((name, len(images)))
            return run(images, state)

        return noted

    runner.stages = tuple(stage._replace(run=noting(stage.name, stage.run)) for stage in runner.stages)
    return runner, seen


def test_the_focus_runs_on_full_batches_and_the_rest_at_the_end() -> None:
    """Ten images that go on, in batches of four: two full ones and the two that are left."""
    runner, seen = watched()
    Schedule("queued", 4).answer(runner, BATCHES, policy_for(10, CONFIDENCES))
    assert [rows for stage, rows in seen if stage == "focus"] == [4, 4, 2]
    assert [rows for stage, rows in seen if stage == "location"] == [4, 4, 4, 4, 4, 1]


def test_no_image_waits_for_more_batches_than_it_may() -> None:
    """With patience for one more batch, a focus that would never fill runs anyway."""
    runner, seen = watched()
    Schedule("queued", 100, patience=1).answer(runner, BATCHES, ExitPolicy.at(2.0))
    waited = 0
    for stage, _ in seen:
        waited = 0 if stage == "focus" else waited + 1
        assert waited <= 2


def test_answers_come_as_soon_as_they_are_complete() -> None:
    """A batch of which all exit does not wait for the end of the stream, but never overtakes one before it."""
    answers = Schedule("queued", 4).answers(RUNNER, BATCHES, ExitPolicy.at(0.0))
    with torch.inference_mode():
        first = next(answers)
    assert bool(first.exited.all())


def test_one_stage_runs_the_same_under_both() -> None:
    """A plain classifier has nothing to queue for."""
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    classifier(PHOTOS[:1])
    runner = Runner(classifier, CPU, torch.float32)
    immediate, queued = (Schedule(name).answer(runner, BATCHES, ExitPolicy.at(0.5)) for name in get_args(ScheduleName))
    for one, other in zip(immediate, queued, strict=True):
        assert torch.equal(one.logits, other.logits)


def test_phases_are_timed_under_a_queue_too() -> None:
    """By the same names."""
    watch = Stopwatch(CPU)
    Schedule("queued", 4).answer(RUNNER, BATCHES, ExitPolicy.at(2.0), watch)
    assert set(watch.seconds()) == {"location", "focus", EXIT, PREPARATION}
