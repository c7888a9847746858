"""The fastest way of running a network on this machine, found by trying, and kept for the next time."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor, nn

from lfvit_cli.files import replacing
from lfvit_cli.networks.stages import stages_of
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime.devices import synchronise
from lfvit_cli.runtime.runner import Execution, Runner
from lfvit_cli.runtime.schedules import Schedule

LEAST_GAIN = 0.03  # less than this may be chance
HOPELESS = 1.2
REPEATS, SECONDS = 3, 4.0


@dataclass(frozen=True)
class Tuning:
    """What can be chosen about a run without changing its answers.

    Attributes:
        compiled: as in :class:`Execution`.
        channels_last: as in :class:`Execution`.
        threads: as in :class:`Execution`.
        later_batch: as in :class:`Schedule`.
    """

    compiled: bool = False
    channels_last: bool = False
    threads: int | None = None
    later_batch: int | None = None

    def execution(self, given: Execution) -> Execution:
        """How the network runs, with what was chosen."""
        return replace(given, compiled=self.compiled, channels_last=self.channels_last, threads=self.threads)

    def schedule(self, given: Schedule) -> Schedule:
        """When its stages run, with what was chosen where nothing was given."""
        return replace(given, later_batch=given.later_batch or self.later_batch)


@dataclass(frozen=True)
class Workload:
    """What is to be run fast.

    Attributes:
        network: any network.
        device: where.
        dtype: precision.
        batches: images (B, 3, S, S) each, normalised, on the device.
        policy: when an answer stands.
        schedule: when later stages run.
        execution: what is fixed about how.
    """

    network: nn.Module
    device: torch.device
    dtype: torch.dtype
    batches: Sequence[Tensor]
    policy: ExitPolicy
    schedule: Schedule
    execution: Execution

    def prepare(self, tuning: Tuning) -> Callable[[], float]:
        """What runs all batches once and returns the seconds."""
        runner = Runner(self.network, self.device, self.dtype, tuning.execution(self.execution))
        schedule, batches = tuning.schedule(self.schedule), [runner.place(batch) for batch in self.batches]
        runner.warm_up(batches[0])

        def run() -> float:
            runner.settle()
            synchronise(self.device)
            began = time.perf_counter()
            schedule.answer(runner, batches, self.policy)
            synchronise(self.device)
            return time.perf_counter() - began

        return run


def tune(work: Workload, report: Callable[[str], None]) -> Tuning:
    """Try one change after another, and keep each that is faster by more than chance.

    Args:
        work: what is to be fast.
        report: called with what is tried.
    """
    threads = torch.get_num_threads()
    best = Tuning(threads=threads)
    fastest = work.prepare(best)
    for candidate in _changes(work, threads):
        tried = replace(best, **candidate)
        report(", ".join(f"{name} {value}" for name, value in candidate.items()))
        run = work.prepare(tried)
        if _ratio(run, fastest) < 1 - LEAST_GAIN:
            best, fastest = tried, run
    torch.set_num_threads(threads)
    return best


def _changes(work: Workload, threads: int) -> Iterator[dict[str, Any]]:
    """One change at a time, the likeliest first."""
    yield {"compiled": True}
    yield {"channels_last": True}
    if work.device.type == "cpu" and threads > 1:
        yield {"threads": threads // 2}
    stages = len(stages_of(work.network))
    if work.schedule.name == "queued" and work.schedule.later_batch is None and stages > 1:
        batch = len(work.batches[0])
        for divisor in (2, 4):
            if batch >= 2 * divisor:
                yield {"later_batch": batch // divisor}


def _ratio(run: Callable[[], float], other: Callable[[], float]) -> float:
    """The median over pairs, run in turn, of the first's seconds to the second's; few pairs where it is hopeless."""
    ratios = list[float]()
    began = time.perf_counter()
    while len(ratios) < REPEATS or time.perf_counter() - began < SECONDS:
        ratios.append(run() / other())
        if len(ratios) > 1 and min(ratios) > HOPELESS:
            break
    return statistics.median(ratios)


class TuningCache:
    """What was found before, in one file of this user; a file that cannot be read is as good as none.

    Args:
        path: the file; by default in the user's cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or user_cache_path("lfvit") / "tuning.json"

    def find(self, key: str) -> Tuning | None:
        """What was found for a key; None where nothing was."""
        found = self._read().get(key)
        try:
            return None if found is None else Tuning(**found)
        except TypeError:
            return None

    def keep(self, key: str, tuning: Tuning) -> None:
        """Keep what was found, whole or not at all; a cache that cannot be written is done without."""
        entries = self._read() | {key: asdict(tuning)}
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(entries, indent=2), "utf-8")

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
