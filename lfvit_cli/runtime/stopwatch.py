"""How long each phase of a run takes: by the device's clock on CUDA, by the wall clock elsewhere."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function


class Stopwatch:
    """Adds up the seconds of named phases.

    Args:
        device: whose clock is read.
        traced: name the phases in PyTorch's profiler as well.
    """

    def __init__(self, device: torch.device, *, traced: bool = False) -> None:
        self._device, self._traced = device, traced
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens within."""
        if self._traced:
            with record_function(name), self._timed(name):
                yield
        else:
            with self._timed(name):
                yield

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        if self._device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((name, start, end))
        else:
            began = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far; on CUDA the device must have been waited for."""
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000
        self._events.clear()
        return dict(self._seconds)
