"""Timing is fair: the same photos for all, every photo used, the exits counted."""

from dataclasses import replace

import pytest
import timm
import torch

from lfvit_cli.bench.timing import Contender, batches_per_round, photo_stream, time_rounds
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.runtime.runner import Runner
from lfvit_cli.runtime.schedules import Schedule

CPU = torch.device("cpu")


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 32), (8, 4), (31, 2), (32, 1), (256, 1)])
def test_a_round_holds_at_least_32_photos(batch_size: int, batches: int) -> None:
    """So that small batches are a mixture of photos that exit and photos that go on."""
    assert batches_per_round(batch_size) == batches


def test_a_round_of_a_queue_has_eight_batches() -> None:
    """Or more, where more photos are asked for."""
    assert batches_per_round(32, Schedule("queued")) == 8
    assert batches_per_round(1, Schedule("queued")) == 32
    assert batches_per_round(32, Schedule("queued"), photos=1000) == 32


def test_an_order_is_kept_without_a_seed() -> None:
    """Over and over."""
    stream = photo_stream(torch.tensor([5, 3, 9]), 2, None)
    assert [next(stream).tolist() for _ in range(3)] == [[5, 3], [9, 5], [3, 9]]


def test_every_photo_is_used_once_before_any_is_used_again() -> None:
    """Also where batches do not divide the photos."""
    stream = photo_stream(photos=10, batch_size=4, seed=3)
    seen = torch.cat([next(stream) for _ in range(5)]).tolist()
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_a_seed_gives_the_same_order() -> None:
    """And another seed another."""
    first, again, other = (next(photo_stream(9, 9, seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other


def contender(name: str, threshold: float) -> Contender:
    """A network of one layer over eight photos."""
    keywords = {"embed_dim": 48, "num_heads": 3, "depth": 1, "num_classes": 10}
    torch.manual_seed(0)
    network = timm.create_model(name, **keywords)
    return Contender(name, Runner(network, CPU, torch.float32), torch.randn(8, 3, 224, 224), ExitPolicy.at(threshold))


def test_all_contenders_get_as_many_rounds_and_every_batch_is_kept() -> None:
    """Rounds go on until the least number and the least seconds are reached; exits are counted as they happen."""
    contenders = [contender("lf_deit_tiny", 0.0), contender("deit_tiny_patch16_224", 0.0)]
    reports: list[int] = []
    seen = time_rounds(
        contenders,
        8,
        photo_stream(8, 8, 0),
        min_rounds=3,
        min_seconds=0.0,
        batches=4,
        progress=lambda done, _total, _what: reports.append(done),
    )
    assert reports == [1, 2, 3]
    for timings in seen:
        assert [len(batches) for batches in timings.seconds] == [4, 4, 4]
        assert all(seconds > 0 for batches in timings.seconds for seconds in batches)
        assert timings.rounds == [sum(batches) for batches in timings.seconds]
        assert timings.images_per_round == 32
    assert [timings.answered_by_round for timings in seen] == [[[32, 0]] * 3, [[32]] * 3]
    assert seen[0].answered == [[[8, 0]] * 4] * 3
    assert seen[0].answered_in_all == [96, 0]
    assert [set(phases) for phases in seen[0].phases] == [{"location", "exit"}] * 3


def test_a_queued_round_is_one_piece() -> None:
    """Batches wait for each other, so that only the round has a time."""
    network = contender("lf_deit_tiny", 2.0)
    queued = replace(network, schedule=Schedule("queued", 3))
    (timings,) = time_rounds(
        [queued], 4, photo_stream(8, 4, 0), min_rounds=2, min_seconds=0, batches=5, progress=lambda *_: None
    )
    assert timings.images == timings.images_per_round == 20
    assert [len(pieces) for pieces in timings.seconds] == [1, 1]


def test_energy_is_read_around_each_round() -> None:
    """What the meter went up by."""
    readings = iter((10.0, 14.0, 20.0, 21.0))
    (timings,) = time_rounds(
        [contender("deit_tiny_patch16_224", 2.0)],
        4,
        photo_stream(8, 4, 0),
        min_rounds=2,
        min_seconds=0,
        batches=1,
        progress=lambda *_: None,
        meter=lambda: next(readings),
    )
    assert timings.joules == [4.0, 1.0]


def test_the_least_seconds_are_reached_by_each() -> None:
    """More rounds than the least number, where they are short."""
    (timings,) = time_rounds(
        [contender("lf_deit_tiny", 2.0)],
        8,
        photo_stream(8, 8, 0),
        min_rounds=1,
        min_seconds=0.3,
        batches=4,
        progress=lambda *_: None,
    )
    assert sum(timings.rounds) >= 0.3
    assert sum(timings.rounds[:-1]) < 0.3
    assert timings.answered_in_all[0] == 0
