"""When later stages run: at once for each batch, or when enough images wait for a full batch of them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lfvit_cli.networks.exits import goes_on
from lfvit_cli.networks.stages import EXIT, PREPARATION, Output, Walk, join_rows
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime.graphs import copied
from lfvit_cli.runtime.runner import Runner
from lfvit_cli.runtime.stopwatch import Stopwatch

ScheduleName = Literal["immediate", "queued"]
DEFAULT_PATIENCE = 16


@dataclass(frozen=True)
class Schedule:
    """How a stream of batches is answered; the answers are those of each batch alone, in order.

    Attributes:
        name: ``immediate`` answers a batch before it looks at the next, for latency; ``queued`` lets images wait before
            every later stage until they fill a batch of it, for throughput. One stage runs the same under both.
        later_batch: images a batch of every later stage under ``queued``; None for as many as the first batch has.
        patience: most further batches that an image waits for, before each stage.
    """

    name: ScheduleName = "immediate"
    later_batch: int | None = None
    patience: int = DEFAULT_PATIENCE

    @torch.inference_mode()
    def answer(
        self, runner: Runner, batches: Iterable[Tensor], policy: ExitPolicy, watch: Stopwatch | None = None
    ) -> list[Walk]:
        """Answer all batches: images (B, 3, S, S) on the device, normalised."""
        return list(self.answers(runner, batches, policy, watch))

    def answers(
        self, runner: Runner, batches: Iterable[Tensor], policy: ExitPolicy, watch: Stopwatch | None = None
    ) -> Iterator[Walk]:
        """Answer batch by batch, each as soon as it and all before it are complete; to be run in inference mode."""
        watch = watch or Stopwatch(runner.device)
        if self.name == "immediate" or len(runner.stages) == 1:
            for images in batches:
                yield runner(images, policy, watch)
            return
        stream = _Stream(runner, policy.for_stages(runner.names), self, watch)
        for images in batches:
            stream.add(images)
            yield from stream.finished()
        stream.flush()
        yield from stream.finished()


def counting_is_free(device: torch.device) -> bool:
    """Whether the host may look at a tensor without waiting for work under way."""
    return device.type == "cpu"


class _Arrival:
    """A batch that has arrived.

    Attributes:
        logits: (B, K) of the last stage that has run for each image.
        exit_stage: (B,) index of that stage.
        unanswered: images whose answer is not known to stand.
    """

    def __init__(self, images: Tensor, logits: Tensor) -> None:
        self.images, self.logits = images, logits.clone()
        self.exit_stage = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self.unanswered = len(images)


class _Part:
    """Some images of an arrival after a stage.

    Attributes:
        rows: (n,) their places in the arrival.
        state: the stage's output for them.
        staying: (n,) whether each goes on.
        since: number of the batch that came last before them.
        waiting: places among ``rows`` of those that go on and still wait; None until the host has counted them.
    """

    def __init__(self, arrival: _Arrival, rows: Tensor, state: Output, staying: Tensor, since: int) -> None:
        self.arrival, self.rows, self.state, self.staying, self.since = arrival, rows, state, staying, since
        self.waiting: Tensor | None = None

    def count(self, staying: int) -> None:
        """Find the images that go on, whose number the host knows by now: nothing to wait for."""
        self.waiting = torch.nonzero_static(self.staying, size=staying).squeeze(1)
        self.arrival.unanswered -= len(self.rows) - staying

    def take(self, most: int) -> Tensor:
        """At most so many of the places that wait; they wait no longer."""
        assert self.waiting is not None  # noqa: S101  # only counted parts have any
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken


class _Queue:
    """Images that wait for one later stage, on the device.

    The host learns how many wait only when a batch of them is likely to be full, not after every batch.

    Args:
        stream: that it belongs to.
        index: of the stage.
        onward: the queue before the next stage; None where this is the last.
    """

    def __init__(self, stream: "_Stream", index: int, onward: "_Queue | None") -> None:
        self._stream, self._index, self._onward = stream, index, onward
        self._parts: deque[_Part] = deque()
        self._share = 1.0  # of the images counted last that went on

    def put(self, arrival: _Arrival, rows: Tensor, state: Output) -> None:
        """Add images that the stage before has answered."""
        staying = goes_on(state.logits, self._stream.policy, self._index - 1)
        self._parts.append(_Part(arrival, rows, state, staying, self._stream.batches))

    def advance(self) -> None:
        """Run the stage on those that wait if there are enough, or if one has waited for long enough."""
        stream = self._stream
        if self._parts and (self._is_overdue() or counting_is_free(stream.device) or self._is_likely_full()):
            self.count()
        while self._waiting() >= stream.size or (self._waiting() and self._is_overdue()):
            self._run()
        if self._onward is not None:
            self._onward.advance()

    def flush(self) -> None:
        """Run the stage on all that still wait."""
        self.count()
        while self._waiting():
            self._run()
        if self._onward is not None:
            self._onward.flush()

    def count(self) -> None:
        """The one place where the host waits for the device."""
        uncounted = [part for part in self._parts if part.waiting is None]
        if uncounted:
            with self._stream.watch.phase(EXIT):
                counts = torch.stack([part.staying.sum() for part in uncounted]).tolist()
                for part, count in zip(uncounted, counts, strict=True):
                    part.count(count)
                self._share = sum(counts) / sum(len(part.rows) for part in uncounted)
        self._forget()

    def _forget(self) -> None:
        """Let go of the parts of which nothing waits."""
        self._parts = deque(part for part in self._parts if part.waiting is None or len(part.waiting))

    def _is_overdue(self) -> bool:
        return bool(self._parts) and self._stream.batches - self._parts[0].since >= self._stream.patience

    def _waiting(self) -> int:
        """Images that wait, as far as they are counted."""
        return sum(len(part.waiting) for part in self._parts if part.waiting is not None)

    def _is_likely_full(self) -> bool:
        """Whether a full batch is expected, and half a batch to spare, so that the count is likely to pay off."""
        uncounted = [len(part.rows) for part in self._parts if part.waiting is None]
        if not uncounted:
            return False
        return self._waiting() + self._share * (sum(uncounted) - uncounted[-1] / 2) >= self._stream.size

    def _run(self) -> None:
        """Run the stage on the oldest images that wait: a full batch, or all there are."""
        stage, watch, room = self._stream.stages[self._index], self._stream.watch, self._stream.size
        with watch.phase(PREPARATION):
            taken: list[tuple[_Part, Tensor]] = []
            for part in self._parts:
                if room and part.waiting is not None and len(part.waiting):
                    places = part.take(room)
                    taken.append((part, places))
                    room -= len(places)
            arrivals = [(part.arrival, part.rows[places]) for part, places in taken]
            images = torch.cat([arrival.images[rows] for arrival, rows in arrivals])
            state = join_rows([part.state[places] for part, places in taken])
            if stage.prepare is not None:
                state = stage.prepare(state)
        with watch.phase(stage.name):
            output = stage.run(images, state)
        with watch.phase(EXIT):
            self._hand_over(arrivals, self._stream.own(output))
            self._forget()

    def _hand_over(self, arrivals: list[tuple[_Arrival, Tensor]], output: Output) -> None:
        """Give each arrival its rows of an output, and put those that may go on before the next stage."""
        first = 0
        for arrival, rows in arrivals:
            own = output[first : first + len(rows)]
            arrival.logits[rows], arrival.exit_stage[rows] = own.logits, self._index
            if self._onward is None:
                arrival.unanswered -= len(rows)
            else:
                self._onward.put(arrival, rows, own)
            first += len(rows)


class _Stream:
    """Successive batches on their way through the stages, with a queue before every stage but the first.

    Attributes:
        batches: that have arrived.
        size: images a batch of a later stage.
    """

    def __init__(self, runner: Runner, policy: ExitPolicy, schedule: Schedule, watch: Stopwatch) -> None:
        self.stages, self.device, self.policy, self.watch = runner.stages, runner.device, policy, watch
        self.patience, self.size, self.batches = schedule.patience, schedule.later_batch or 0, 0
        self._recorded = runner.execution.capture is not None
        self._arrivals: deque[_Arrival] = deque()
        queue: _Queue | None = None
        for index in reversed(range(1, len(self.stages))):
            queue = _Queue(self, index, queue)
        assert queue is not None  # noqa: S101  # one stage needs no queue
        self._first = queue

    def own(self, output: Output) -> Output:
        """An output that stands while it waits: a recording's memory is used again by the next batch."""
        return copied(output) if self._recorded else output

    def add(self, images: Tensor) -> None:
        """Run the first stage on a batch, and later ones on those that wait if there are enough."""
        self.size = self.size or len(images)
        self.batches += 1
        with self.watch.phase(self.stages[0].name):
            state = self.stages[0](images, None)
        with self.watch.phase(EXIT):
            state = self.own(state)
            self._arrivals.append(_Arrival(images, state.logits))
            rows = torch.arange(len(images), device=images.device)
            self._first.put(self._arrivals[-1], rows, state)
        self._first.advance()

    def flush(self) -> None:
        """Run the later stages on all that still wait."""
        self._first.flush()

    def finished(self) -> Iterator[Walk]:
        """The batches that are complete, and all before them too."""
        while self._arrivals and not self._arrivals[0].unanswered:
            done = self._arrivals.popleft()
            yield Walk(done.logits, done.exit_stage, done.exit_stage < len(self.stages) - 1)
