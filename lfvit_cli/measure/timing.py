"""Timing contenders in turn: every round gives each the same photos, so that a drifting machine is fair to all."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lfvit_cli.runtime.devices import synchronise
from lfvit_cli.runtime.runner import Runner

IMAGES_PER_ROUND = 32

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Contender:
    """A network, the photos as it takes them, and the threshold it exits at.

    Attributes:
        name: the model's spec.
        runner: what answers.
        images: (N, 3, S, S), normalised, on the runner's device; the same N photos for all contenders.
        threshold: confidence from which a stage's answer stands.
    """

    name: str
    runner: Runner
    images: Tensor
    threshold: float


@dataclass
class Timings:
    """What was seen of one contender.

    Attributes:
        seconds: of each batch, a list a round.
        exited: images answered before the last stage, a round.
    """

    seconds: list[list[float]] = field(default_factory=list)
    exited: list[int] = field(default_factory=list)

    @property
    def rounds(self) -> list[float]:
        """Seconds of each round."""
        return [sum(batches) for batches in self.seconds]


def batches_per_round(batch_size: int) -> int:
    """Enough small batches that a round holds a mixture of images that exit and images that go on."""
    return max(1, math.ceil(IMAGES_PER_ROUND / batch_size))


def photo_stream(photos: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of photo indices: every photo once in random order, then all again in another."""
    generator, waiting = np.random.default_rng(seed), np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate((waiting, generator.permutation(photos)))
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        yield torch.from_numpy(batch)


def time_rounds(
    contenders: Sequence[Contender],
    batch_size: int,
    *,
    min_rounds: int,
    min_seconds: float,
    seed: int,
    progress: Progress,
) -> dict[str, Timings]:
    """Time all contenders round by round until each has enough rounds, timed batches and seconds.

    The order within a round rotates, so that none always runs on the machine that another has warmed.
    """
    stream = photo_stream(len(contenders[0].images), batch_size, seed)
    for contender in contenders:
        contender.runner.warm_up(contender.images[next(photo_stream(len(contender.images), batch_size, seed))])
        synchronise(contender.runner.device)
    timings = {contender.name: Timings() for contender in contenders}
    done = 0
    while done < min_rounds or min(sum(timing.rounds) for timing in timings.values()) < min_seconds:
        batches = [next(stream) for _ in range(batches_per_round(batch_size))]
        turn = done % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            seconds, exited = _time_round(contender, batches)
            timings[contender.name].seconds.append(seconds)
            timings[contender.name].exited.append(exited)
        done += 1
        progress(done, max(done, min_rounds), f"rounds of {len(batches)} x {batch_size} photos")
    return timings


def _time_round(contender: Contender, batches: Sequence[Tensor]) -> tuple[list[float], int]:
    seconds, exited = [], 0
    for indices in batches:
        images = contender.images[indices]
        taken, gone = _time_batch(contender, images)
        seconds.append(taken)
        exited += gone
    return seconds, exited


def _time_batch(contender: Contender, images: Tensor) -> tuple[float, int]:
    """Seconds of one batch by the device's own clock on CUDA, by the wall clock elsewhere; and how many exited."""
    device = contender.runner.device
    synchronise(device)
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        output = contender.runner(images, contender.threshold)
        end.record()
        synchronise(device)
        seconds = start.elapsed_time(end) / 1000
    else:
        began = time.perf_counter()
        output = contender.runner(images, contender.threshold)
        synchronise(device)
        seconds = time.perf_counter() - began
    return seconds, int(output.exited.sum())
