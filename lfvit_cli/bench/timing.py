"""Timing contenders in turn: every round gives each the same photos, so that a drifting machine is fair to all."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lfvit_cli.policies import ExitPolicy
from lfvit_cli.records import Progress
from lfvit_cli.runtime.devices import synchronise
from lfvit_cli.runtime.energy import Meter
from lfvit_cli.runtime.runner import Runner
from lfvit_cli.runtime.schedules import Schedule
from lfvit_cli.runtime.stopwatch import Stopwatch

IMAGES_PER_ROUND = 32
QUEUED_BATCHES = 8  # a queue is emptied at the end of a round, which fewer would make too much of

IMMEDIATE = Schedule()


@dataclass(frozen=True)
class Contender:
    """A network, the photos as it takes them, and when its answers stand.

    Attributes:
        name: the model's spec.
        runner: what answers.
        images: (N, 3, S, S), normalised, on the runner's device; the same N photos for all contenders.
        policy: when an answer stands.
        schedule: when later stages run.
        asked_rate: the exit rate that the policy was chosen for, if any.
    """

    name: str
    runner: Runner
    images: Tensor
    policy: ExitPolicy
    schedule: Schedule = IMMEDIATE
    asked_rate: float | None = None


@dataclass
class Timings:
    """What was seen of one contender.

    A piece is what is timed as a whole: a batch that is answered at once, or a round of batches that may wait for each
    other.

    Attributes:
        images: of a piece.
        seconds: of each piece, a list a round.
        answered: images of each piece answered by each stage, a list a round.
        phases: seconds of each phase, a mapping a round.
        joules: of each round, where they can be read.
    """

    images: int
    seconds: list[list[float]] = field(default_factory=list)
    answered: list[list[list[int]]] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)

    @property
    def rounds(self) -> list[float]:
        """Seconds of each round."""
        return [sum(pieces) for pieces in self.seconds]

    @property
    def images_per_round(self) -> int:
        """Images of all pieces of a round."""
        return self.images * len(self.seconds[0])

    @property
    def answered_by_round(self) -> list[list[int]]:
        """Images answered by each stage, of each round."""
        return [_added(pieces) for pieces in self.answered]

    @property
    def answered_in_all(self) -> list[int]:
        """Images answered by each stage."""
        return _added(self.answered_by_round)


def _added(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


def batches_per_round(batch_size: int, schedule: Schedule | None = None, photos: int = IMAGES_PER_ROUND) -> int:
    """Enough batches that a round holds a mixture of images that exit and images that go on, and fills a queue."""
    enough = max(1, math.ceil(photos / batch_size))
    return max(enough, QUEUED_BATCHES) if schedule is not None and schedule.name == "queued" else enough


def photo_stream(photos: int | Tensor, batch_size: int, seed: int | None) -> Iterator[Tensor]:
    """Endless batches of photo indices: every photo once, then all again.

    Args:
        photos: their number, or the indices of some in order.
        batch_size: indices a batch.
        seed: of their random order, another each time; None keeps the order given.
    """
    indices = np.arange(photos) if isinstance(photos, int) else photos.numpy()
    generator, waiting = np.random.default_rng(seed), np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate((waiting, indices if seed is None else generator.permutation(indices)))
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        yield torch.from_numpy(batch)


def time_rounds(
    contenders: Sequence[Contender],
    batch_size: int,
    stream: Iterator[Tensor],
    *,
    min_rounds: int,
    min_seconds: float,
    batches: int,
    progress: Progress,
    meter: Meter | None = None,
) -> list[Timings]:
    """Time all contenders round by round until each has enough rounds, timed batches and seconds.

    The order within a round rotates, so that none always runs on the machine that another has warmed.

    Args:
        contenders: warmed up.
        batch_size: images a batch.
        stream: batches of photo indices, the same for all contenders.
        min_rounds: least number of rounds.
        min_seconds: least seconds of each contender.
        batches: of a round.
        progress: called with (rounds done, rounds at least, what) after each.
        meter: reads the device's joules.
    """
    timings = [
        Timings(batch_size * (1 if contender.schedule.name == "immediate" else batches)) for contender in contenders
    ]
    done = 0
    while done < min_rounds or min(sum(timing.rounds) for timing in timings) < min_seconds:
        chosen = [next(stream) for _ in range(batches)]
        for turn in range(len(contenders)):
            index = (done + turn) % len(contenders)
            time_round(contenders[index], chosen, timings[index], meter)
        done += 1
        progress(done, max(done, min_rounds), f"rounds of {batches} x {batch_size} photos")
    return timings


def time_round(contender: Contender, batches: Sequence[Tensor], timings: Timings, meter: Meter | None = None) -> None:
    """Time one contender on some batches of photo indices, and add what was seen."""
    runner, watch = contender.runner, Stopwatch(contender.runner.device)
    runner.settle()
    images = [runner.place(contender.images[indices]) for indices in batches]
    pieces = [[batch] for batch in images] if contender.schedule.name == "immediate" else [images]
    seconds, answered = list[float](), list[list[int]]()
    before = 0.0 if meter is None else meter()
    for piece in pieces:
        taken, counts = _time_piece(contender, piece, watch)
        seconds.append(taken)
        answered.append(counts)
    if meter is not None:
        timings.joules.append(meter() - before)
    timings.seconds.append(seconds)
    timings.answered.append(answered)
    timings.phases.append(watch.seconds())


def _time_piece(contender: Contender, batches: Sequence[Tensor], watch: Stopwatch) -> tuple[float, list[int]]:
    """Seconds of one piece, by the device's own clock on CUDA, else by the wall's; images answered by each stage."""
    device = contender.runner.device
    synchronise(device)
    whole = Stopwatch(device)
    with whole.phase("whole"):
        outputs = contender.schedule.answer(contender.runner, batches, contender.policy, watch)
        if device.type != "cuda":
            synchronise(device)
    synchronise(device)
    stages = len(contender.runner.stages)
    return whole.seconds()["whole"], _added([output.answered(stages) for output in outputs])
