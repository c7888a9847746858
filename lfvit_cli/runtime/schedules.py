"""When later stages run: at once for each batch, or when enough images wait for a full batch of them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lfvit_cli.networks.staged import EarlyExitOutput, StageOutput, goes_on, join_rows
from lfvit_cli.runtime.errors import RuntimeSettingError
from lfvit_cli.runtime.runner import EXIT, SELECTION, Runner
from lfvit_cli.runtime.stopwatch import Stopwatch

ScheduleName = Literal["immediate", "queued"]
DEFAULT_PATIENCE = 16


@dataclass(frozen=True)
class Schedule:
    """How a stream of batches is answered; the answers are those of each batch alone, in order.

    Attributes:
        name: ``immediate`` answers a batch before it looks at the next, for latency; ``queued`` lets images wait until
            they fill a batch of the second stage, for throughput. A network of one stage runs the same under both.
        later_batch: images a batch of the second stage under ``queued``; None for as many as the first batch has.
        patience: most further batches that an image waits for.
    """

    name: ScheduleName = "immediate"
    later_batch: int | None = None
    patience: int = DEFAULT_PATIENCE

    @torch.inference_mode()
    def answer(
        self, runner: Runner, batches: Iterable[Tensor], threshold: float, watch: Stopwatch | None = None
    ) -> list[EarlyExitOutput]:
        """Answer all batches: images (B, 3, S, S) on the device, normalised."""
        return list(self.answers(runner, batches, threshold, watch))

    def answers(
        self, runner: Runner, batches: Iterable[Tensor], threshold: float, watch: Stopwatch | None = None
    ) -> Iterator[EarlyExitOutput]:
        """Answer batch by batch, each as soon as it and all before it are complete; to be run in inference mode."""
        watch = watch or Stopwatch(runner.device)
        if self.name == "immediate" or len(runner.stages) == 1:
            for images in batches:
                yield runner(images, threshold, watch)
            return
        queue = _Queue(runner, threshold, self, watch)
        for images in batches:
            queue.add(images)
            yield from queue.finished()
        queue.flush()
        yield from queue.finished()


def check_schedule(name: str, stages: tuple[str, ...], model: str) -> None:
    """Raise a RuntimeSettingError where a network cannot follow a schedule."""
    if name == "queued" and len(stages) > 2:
        raise RuntimeSettingError(
            f"{model} has the stages {', '.join(stages)}, and the queued schedule is for two", "Use immediate."
        )


def counting_is_free(device: torch.device) -> bool:
    """Whether the host may look at a tensor without waiting for work under way."""
    return device.type == "cpu"


class _Arrival:
    """A batch after the first stage.

    Attributes:
        staying: (B,) whether each image goes on.
        counted: whether the host knows how many do.
        rows: those that do and still wait; empty until they are counted.
        unanswered: images that wait or run.
    """

    def __init__(self, images: Tensor, state: StageOutput, staying: Tensor) -> None:
        self.images, self.state, self.staying = images, state, staying
        self.logits = state.logits.clone()
        self.exit_stage = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self.counted = False
        self.rows = staying.new_empty(0, dtype=torch.long)
        self.unanswered = len(images)

    def count(self, staying: int) -> None:
        """Find the rows that go on, whose number the host knows by now: nothing to wait for."""
        self.counted = True
        self.rows = torch.nonzero_static(self.staying, size=staying).squeeze(1)
        self.unanswered = staying

    def take(self, most: int) -> Tensor:
        """At most so many of the rows that wait; they wait no longer."""
        taken, self.rows = self.rows[:most], self.rows[most:]
        return taken


class _Queue:
    """Images of successive batches that wait for the second stage, on the device.

    The host learns how many wait only when a batch of them is likely to be full, not after every batch.
    """

    def __init__(self, runner: Runner, threshold: float, schedule: Schedule, watch: Stopwatch) -> None:
        self._runner, self._threshold, self._schedule, self._watch = runner, threshold, schedule, watch
        self._arrivals: deque[_Arrival] = deque()
        self._share = 1.0  # of the images counted last that went on
        self._size = schedule.later_batch or 0

    def add(self, images: Tensor) -> None:
        """Run the first stage on a batch, and the second on those that wait if there are enough."""
        first, _ = self._runner.stages
        self._size = self._size or len(images)
        with self._watch.phase(first):
            state = self._runner.begin(images)
        with self._watch.phase(EXIT):
            if self._runner.execution.capture:
                # A recording's memory is used again by the next batch.
                state = join_rows([state], lambda tensors: tensors[0].clone())
            self._arrivals.append(_Arrival(images, state, goes_on(state.logits, self._threshold)))
            overdue = len(self._arrivals) > self._schedule.patience
            if overdue or counting_is_free(images.device) or self._is_likely_full():
                self._count()
        while self._waiting() >= self._size or (overdue and self._arrivals[0].unanswered):
            self._resume()

    def flush(self) -> None:
        """Run the second stage on all that still wait."""
        with self._watch.phase(EXIT):
            self._count()
        while self._waiting():
            self._resume()

    def finished(self) -> Iterator[EarlyExitOutput]:
        """The batches that are complete, and all before them too."""
        while self._arrivals and self._arrivals[0].counted and not self._arrivals[0].unanswered:
            done = self._arrivals.popleft()
            yield EarlyExitOutput(done.logits, done.exit_stage, exited=done.exit_stage == 0)

    def _waiting(self) -> int:
        """Images that wait, as far as they are counted."""
        return sum(len(arrival.rows) for arrival in self._arrivals)

    def _is_likely_full(self) -> bool:
        """Whether a full batch is expected, and half a batch to spare, so that the count is likely to pay."""
        uncounted = [len(arrival.images) for arrival in self._arrivals if not arrival.counted]
        return self._waiting() + self._share * (sum(uncounted) - uncounted[-1] / 2) >= self._size

    def _count(self) -> None:
        """The one place where the host waits for the device."""
        uncounted = [arrival for arrival in self._arrivals if not arrival.counted]
        if not uncounted:
            return
        counts = torch.stack([arrival.staying.sum() for arrival in uncounted]).tolist()
        for arrival, count in zip(uncounted, counts, strict=True):
            arrival.count(count)
        self._share = sum(counts) / sum(len(arrival.images) for arrival in uncounted)

    def _resume(self) -> None:
        """Run the second stage on the oldest images that wait: a full batch, or all there are."""
        _, second = self._runner.stages
        room = self._size
        with self._watch.phase(SELECTION):
            parts: list[tuple[_Arrival, Tensor]] = []
            for arrival in self._arrivals:
                if room and len(arrival.rows):
                    rows = arrival.take(room)
                    parts.append((arrival, rows))
                    room -= len(rows)
            images = torch.cat([arrival.images[rows] for arrival, rows in parts])
            state = self._runner.select(join_rows([arrival.state[rows] for arrival, rows in parts]))
        with self._watch.phase(second):
            output = self._runner.resume(images, state)
        with self._watch.phase(EXIT):
            answers = output.logits.split([len(rows) for _, rows in parts])
            for (arrival, rows), logits in zip(parts, answers, strict=True):
                arrival.logits[rows], arrival.exit_stage[rows] = logits, 1
                arrival.unanswered -= len(rows)
