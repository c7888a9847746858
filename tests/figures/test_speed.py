"""The figure of speed against cost shows what the record holds."""

import numpy as np
import pytest
from made_bench import bench_record

from lfvit_cli.bench.record import BenchRecord
from lfvit_cli.figures.speed import speed_figure
from lfvit_cli.figures.style import render


@pytest.fixture(scope="module")
def record() -> BenchRecord:
    """Two narrow networks at two batch sizes."""
    return bench_record(batch_sizes=(4, 8))


def test_there_is_a_panel_for_each_batch_size_with_a_point_for_each_row(record: BenchRecord) -> None:
    """At its GMACs and its images/s."""
    panels = speed_figure(record).axes
    assert [axes.get_title("left") for axes in panels] == ["batch 4, float32", "batch 8, float32"]
    for axes, rows in zip(panels, (record.rows[:2], record.rows[2:]), strict=True):
        points = [container[0].get_xydata()[0].tolist() for container in axes.containers]
        assert points == [[row.expected_macs / 1e9, row.images_per_second.median] for row in rows]


def test_the_promise_passes_through_the_reference(record: BenchRecord) -> None:
    """On it, MACs a second are those of the reference everywhere."""
    axes = speed_figure(record).axes[0]
    base = record.rows[1]
    promise = next(line for line in axes.lines if line.get_label() == "what the MACs promise")
    macs_a_second = base.expected_macs / 1e9 * base.images_per_second.median
    assert np.asarray(promise.get_xydata()).prod(axis=1) == pytest.approx(macs_a_second)


def test_it_says_that_weights_are_random(record: BenchRecord) -> None:
    """Beside the exit rate that was measured."""
    (legend,) = speed_figure(record).legends
    text = legend.get_title().get_text()
    assert "random weights" in text
    assert f"{record.rows[0].exit_rate:.2f}" in text


def test_the_same_record_gives_the_same_bytes(record: BenchRecord) -> None:
    """So that a committed figure changes only with its numbers."""
    assert render(speed_figure(record), "svg") == render(speed_figure(record), "svg")
