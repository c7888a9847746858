"""A benchmark's rows follow from its timings, and say which exit rate was measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from lfvit_cli.images.demo import demo_photos
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.measure.cost import count_stages
from lfvit_cli.measure.errors import MeasureError
from lfvit_cli.measure.speed import run_bench, time_fitting
from lfvit_cli.measure.speed_record import BenchRecord, BenchRow, BenchSettings
from lfvit_cli.measure.timing import Contender
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.errors import NetworkError
from lfvit_cli.networks.staged import StageOutput
from lfvit_cli.runtime.runner import Runner

NARROW = "embed_dim=48,num_heads=3,depth=2,num_classes=10"
LF, DEIT = f"lf_deit_tiny:{NARROW}", f"deit_tiny_patch16_224:{NARROW}"

# MACs of the first stage, and of the rest.
STAGES = {
    LF: tuple(row.macs for row in count_stages(LF, build(LF))),
    DEIT: (0, count_stages(DEIT, build(DEIT))[0].macs),
}


def bench(listing: Listing | None = None, **changes: object) -> BenchRecord:
    """A quick benchmark of two narrow networks on 24 demo photos."""
    listing = listing or demo_photos("test")
    settings = {
        "models": (LF, DEIT),
        "reference": DEIT,
        "data": "photos",
        "listing_sha256": listing.sha256,
        "max_photos": 24,
        "batch_sizes": (8,),
        "device": "cpu",
        "min_seconds": 0.0,
    }
    return run_bench(BenchSettings.model_validate(settings | changes), listing, lambda *_: None)


@pytest.fixture(scope="module")
def record() -> BenchRecord:
    """One benchmark with two batch sizes and two precisions."""
    return bench(batch_sizes=(1, 8), dtypes=("float32", "bfloat16"), exit_rate=0.5)


def row_of(record: BenchRecord, model: str, batch_size: int, dtype: str) -> BenchRow:
    """The row of a model at a batch size and precision."""
    rows = [row for row in record.rows if (row.model, row.batch_size, row.dtype) == (model, batch_size, dtype)]
    assert len(rows) == 1
    return rows[0]


def test_there_is_a_row_for_each_model_batch_size_and_precision(record: BenchRecord) -> None:
    """Two by two by two."""
    combinations = {(row.model, row.batch_size, row.dtype) for row in record.rows}
    assert len(combinations) == len(record.rows) == len(record.timings) == 8


def test_the_exit_rate_is_that_of_the_timed_images(record: BenchRecord) -> None:
    """Counted from the raw timings, near the rate asked for, and 0 where there is no exit."""
    for row, raw in zip(record.rows, record.timings, strict=True):
        images = row.batch_size * sum(map(len, raw.seconds))
        assert row.exit_rate == sum(raw.exited) / images
    assert row_of(record, LF, 8, "float32").exit_rate == pytest.approx(0.5, abs=0.15)
    assert row_of(record, DEIT, 8, "float32").exit_rate == 0


def test_rows_follow_from_the_raw_timings(record: BenchRecord) -> None:
    """Medians over rounds; each round's time ratio is set against the MACs ratio of that round's exits."""
    raw = {(timings.model, timings.batch_size, timings.dtype): timings for timings in record.timings}
    for row in record.rows:
        rounds = np.array([sum(batches) for batches in raw[row.model, row.batch_size, row.dtype].seconds])
        batches = len(raw[row.model, row.batch_size, row.dtype].seconds[0])
        reference = np.array([sum(batches) for batches in raw[DEIT, row.batch_size, row.dtype].seconds])
        assert row.milliseconds_per_batch.median == pytest.approx(1000 * np.median(rounds) / batches)
        assert row.images_per_second.median == pytest.approx(np.median(batches * row.batch_size / rounds))
        assert row.realised_speedup == pytest.approx(row.realised_over_promised * row.promised_speedup)
        exits = np.array(raw[row.model, row.batch_size, row.dtype].exited) / (batches * row.batch_size)
        location, focus = STAGES[row.model]
        macs = location + (1 - exits) * focus
        assert row.realised_over_promised == pytest.approx(np.median(reference / rounds * macs / sum(STAGES[DEIT])))
        low, high = row.realised_speedup_interval
        assert low <= row.realised_speedup <= high


def test_the_promise_is_the_ratio_of_macs_at_the_measured_exit_rate(record: BenchRecord) -> None:
    """The reference promises 1; a lower exit rate would promise less."""
    lf, deit = row_of(record, LF, 1, "float32"), row_of(record, DEIT, 1, "float32")
    assert deit.promised_speedup == deit.realised_speedup == 1
    assert lf.promised_speedup == pytest.approx(deit.expected_macs / lf.expected_macs)
    assert lf.expected_macs < deit.expected_macs


def test_every_row_has_enough_rounds(record: BenchRecord) -> None:
    """At least ten, also without a least number of seconds."""
    assert all(len(timings.seconds) >= 10 for timings in record.timings)


def test_the_record_says_that_the_weights_are_random_and_the_exit_rate_assumed(record: BenchRecord) -> None:
    """A reader is told what the numbers are not."""
    text = " ".join(record.warnings)
    assert "random weights" in text
    assert "an assumption, not a finding" in text
    assert not any(row.trained for row in record.rows)


def test_a_record_survives_json(record: BenchRecord) -> None:
    """What is written is what was measured."""
    assert BenchRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(("exit_rate", "measured"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_ends_of_the_exit_rate_are_exact(exit_rate: float, measured: float) -> None:
    """None and all."""
    record = bench(models=(LF,), exit_rate=exit_rate)
    assert record.rows[0].exit_rate == measured


def test_a_threshold_is_used_as_it_is() -> None:
    """Every confidence reaches 0; the reference is timed although it was not named."""
    record = bench(models=(LF,), threshold=0.0)
    assert [(row.model, row.threshold) for row in record.rows] == [(LF, 0.0), (DEIT, None)]
    assert record.rows[0].exit_rate == 1
    assert "assumption" not in " ".join(record.warnings)


def test_a_calibrated_threshold_is_no_assumption_and_known_accuracy_is_marked() -> None:
    """Each goes to the model it belongs to; accuracy of untimed weights says that it comes from predictions."""
    record = bench(calibrated={LF: 0.3}, known_top1={DEIT: 0.9})
    by_model = {row.model: row for row in record.rows}
    assert by_model[LF].threshold == 0.3
    assert (by_model[LF].top1, by_model[LF].top1_from) == (None, None)
    assert (by_model[DEIT].top1, by_model[DEIT].top1_from) == (0.9, "predictions")
    assert "assumption" not in " ".join(record.warnings)


def test_trained_weights_are_marked_on_the_photos(tmp_path: Path) -> None:
    """Top-1 is that of the very answers at the threshold, where the classes are the photos'."""
    network = build(LF)
    save_file(network.state_dict(), tmp_path / "lf.safetensors")
    record = bench(checkpoints={LF: str(tmp_path / "lf.safetensors")}, threshold=0.2)
    photos = load_photos(demo_photos("test"), TransformSettings(**evaluation_settings(network)), limit=24)
    answers = network(normalise(photos.pixels, TransformSettings(**evaluation_settings(network))), 0.2)
    right = (answers.logits.argmax(dim=1) == photos.labels).float().mean()
    row = next(row for row in record.rows if row.model == LF)
    assert row.top1_from == "this run"
    assert row.top1 == pytest.approx(float(right))


def test_unreadable_photos_are_skipped_and_counted(tmp_path: Path) -> None:
    """The run goes on with the others; batches larger than the photos say that they repeat them."""
    for index in range(4):
        Image.new("RGB", (300, 260), (60 * index, 90, 120)).save(tmp_path / f"{index}.jpg")
    (tmp_path / "broken.jpg").write_text("no picture")
    record = bench(list_folder(tmp_path), models=(LF,))
    text = " ".join(record.warnings)
    assert "1 of 5 photos cannot be read" in text
    assert "holds some of the 4 photos more than once" in text
    assert record.decoding[0].unreadable == ("broken.jpg",)


def test_a_model_that_does_not_exist_is_refused_before_anything_is_timed() -> None:
    """The error is the networks' own."""
    with pytest.raises(NetworkError, match="no model is called"):
        bench(models=("lf_deit_smal",))


class Greedy(nn.Module):
    """A network that asks for 32 petabytes for every image beyond the second of a batch."""

    stages = ("full",)
    image_size = 8

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def begin(self, images: Tensor) -> StageOutput:
        """Real logits where the memory is there."""
        torch.empty(max(0, len(images) - self.most) * 2**55, dtype=torch.uint8)
        return StageOutput(images.mean(dim=(2, 3)))

    def resume(self, images: Tensor, state: StageOutput) -> StageOutput:
        """Never reached."""
        raise NotImplementedError


@pytest.mark.parametrize(("most", "fitting"), [(2, 2), (3, 2), (100, 16)])
def test_a_batch_that_does_not_fit_in_memory_is_halved_until_it_does(most: int, fitting: int) -> None:
    """The allocation really fails, and what was timed is what the group says."""
    runner = Runner(Greedy(most), torch.device("cpu"), torch.float32)
    contenders = {"greedy": Contender("greedy", runner, torch.zeros(16, 3, 8, 8), 0.0)}
    settings = BenchSettings(models=("greedy",), reference="greedy", data="", listing_sha256="", min_seconds=0.0)
    group = time_fitting(contenders, "float32", 16, settings, lambda *_: None)
    assert group.batch_size == fitting
    assert len(group.timings["greedy"].seconds) == 10


def test_a_network_that_fits_no_batch_is_an_error() -> None:
    """With a remedy."""
    runner = Runner(Greedy(0), torch.device("cpu"), torch.float32)
    contenders = {"greedy": Contender("greedy", runner, torch.zeros(4, 3, 8, 8), 0.0)}
    settings = BenchSettings(models=("greedy",), reference="greedy", data="", listing_sha256="", min_seconds=0.0)
    with pytest.raises(MeasureError, match="not even a batch of one"):
        time_fitting(contenders, "float32", 4, settings, lambda *_: None)
