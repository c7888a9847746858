"""The fastest way is found by trying, changes no answer, and is kept for the next time."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.narrow import CPU, narrow, photos

from lfvit_cli.networks.stages import Stage, Walk
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime import tuning
from lfvit_cli.runtime.runner import Execution, Runner
from lfvit_cli.runtime.schedules import Schedule
from lfvit_cli.runtime.tuning import Tuning, TuningCache, Workload, tune

HALF = ExitPolicy.at(0.5)


def test_what_is_faster_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that sleeps unless images lie pixel by pixel, and longer where it is compiled."""
    monkeypatch.setattr(tuning, "SECONDS", 0.0)
    monkeypatch.setattr(tuning, "REPEATS", 1)

    class Sleepy(Runner):
        def __call__(self, images: torch.Tensor, *rest: Any) -> Walk:
            time.sleep(0.02 if self.execution.channels_last else 0.3 + 0.1 * self.compiled)
            return super().__call__(images, *rest)

        def warm_up(self, images: torch.Tensor) -> None:
            """Nothing is compiled here."""

        def _prepare(self) -> tuple[Stage, ...]:
            self.compiled = self.execution.compiled
            self.execution = Execution(channels_last=self.execution.channels_last)
            return super()._prepare()

    monkeypatch.setattr(tuning, "Runner", Sleepy)
    tried: list[str] = []
    work = Workload(narrow(depth=1), CPU, torch.float32, [photos(2)], HALF, Schedule(), Execution())
    found = tune(work, tried.append)
    assert found.channels_last
    assert not found.compiled
    assert tried[:2] == ["compiled True", "channels_last True"]


def test_a_queue_has_a_batch_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves and quarters of the batch are tried for the focus, unless its batch is given, which then stands."""
    monkeypatch.setattr(tuning, "SECONDS", 0.0)
    monkeypatch.setattr(Runner, "warm_up", lambda *_: None)
    monkeypatch.setattr(tuning, "_ratio", lambda *_: 1.0)
    tried: list[str] = []
    work = Workload(narrow(depth=1), CPU, torch.float32, [photos(8)], HALF, Schedule("queued"), Execution())
    assert tune(work, tried.append) == Tuning(threads=torch.get_num_threads())
    assert tried[-2:] == ["later_batch 4", "later_batch 2"]
    tried.clear()
    tune(replace(work, schedule=Schedule("queued", 3)), tried.append)
    assert not [what for what in tried if "later_batch" in what]
    assert Tuning().schedule(Schedule("queued", 3)).later_batch == 3


def test_what_was_found_is_found_again(tmp_path: Path) -> None:
    """In a file of its own, each key by itself."""
    cache = TuningCache(tmp_path / "new" / "tuning.json")
    assert cache.find("one") is None
    cache.keep("one", Tuning(compiled=True, threads=3))
    cache.keep("two", Tuning())
    again = TuningCache(cache.path)
    assert again.find("one") == Tuning(compiled=True, threads=3)
    assert again.find("two") == Tuning()
    assert [path.name for path in cache.path.parent.iterdir()] == ["tuning.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"one": {"speed": 9}}', "\0"])
def test_a_broken_cache_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    """It is tuned anew, and then there is a whole one."""
    path = tmp_path / "tuning.json"
    path.write_text(text)
    assert TuningCache(path).find("one") is None
    TuningCache(path).keep("one", Tuning(threads=2))
    assert TuningCache(path).find("one") == Tuning(threads=2)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """A file stands where its folder should be."""
    (tmp_path / "taken").write_text("")
    TuningCache(tmp_path / "taken" / "tuning.json").keep("one", Tuning())
