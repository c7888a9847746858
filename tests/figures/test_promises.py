"""The figures of a benchmark beside speed against cost: promises, batch sizes, latencies."""

import numpy as np
import pytest
from made_bench import DEIT, LF, bench_record

from lfvit_cli.bench.record import BenchRecord
from lfvit_cli.figures.latency import latency_figure
from lfvit_cli.figures.promises import promises_figure
from lfvit_cli.figures.scaling import scaling_figure
from lfvit_cli.figures.style import render


@pytest.fixture(scope="module")
def record() -> BenchRecord:
    """Two networks, two exit rates, two batch sizes."""
    return bench_record(batch_sizes=(1, 4), exit_rates=(0.25, 0.75), min_rounds=3)


def test_every_row_but_the_references_is_set_against_the_diagonal(record: BenchRecord) -> None:
    """At the speed-up promised and the one realised; the diagonal goes through equal values."""
    panels = promises_figure(record).axes
    assert [axes.get_title("left") for axes in panels] == ["batch 1, float32", "batch 4, float32"]
    rows = [row for row in record.rows if row.model != DEIT]
    points = [container[0].get_xydata()[0].tolist() for axes in panels for container in axes.containers]
    assert points == [[row.promised_speedup, row.realised_speedup] for row in rows]
    axes = panels[0]
    diagonal = next(line for line in axes.lines if line.get_label() == "realised = promised")
    assert np.diff(np.asarray(diagonal.get_xydata())).tolist() == [[0.0], [0.0]]
    assert axes.get_xlim() == axes.get_ylim()


def test_a_line_for_each_model_and_exit_rate(record: BenchRecord) -> None:
    """Over the batch sizes; one batch size alone makes no figure."""
    figure = scaling_figure(record)
    assert figure is not None
    lines = [container[0].get_xydata().tolist() for container in figure.axes[0].containers]
    assert len(lines) == 3
    speeds = [row.images_per_second.median for row in record.rows if (row.model, row.asked_rate) == (LF, 0.25)]
    assert lines[0] == [[1, speeds[0]], [4, speeds[1]]]
    alone = record.model_copy(update={"rows": record.rows[:3], "timings": record.timings[:3]})
    assert scaling_figure(alone) is None


def test_latencies_are_apart_by_exit(record: BenchRecord) -> None:
    """A panel for each row of batch 1; its bars hold nearly all images, and its legend their shares."""
    figure = latency_figure(record)
    assert figure is not None
    rows = [row for row in record.rows if row.batch_size == 1]
    assert len(figure.axes) == len(rows) == 3
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert texts[0] == f"answered by location: {rows[0].exit_rate:.0%}"
    images = sum(patch.get_height() for axes in figure.axes for patch in axes.patches)  # type: ignore[attr-defined]
    assert images == pytest.approx(3 * 3 * 32, rel=0.05)
    batches = record.model_copy(update={"rows": record.rows[3:], "timings": record.timings[3:]})
    assert latency_figure(batches) is None


def test_the_same_record_gives_the_same_bytes(record: BenchRecord) -> None:
    """So that committed figures change only with their numbers."""
    for draw in (promises_figure, scaling_figure, latency_figure):
        one, two = draw(record), draw(record)
        assert one is not None
        assert two is not None
        assert render(one, "png") == render(two, "png")
