"""A benchmark's rows follow from its timings, and say which exit rate was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import labelled_photos
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from lfvit_cli.bench import entrants, run
from lfvit_cli.bench.entrants import Entrant, exit_threshold
from lfvit_cli.bench.record import BenchRecord, BenchRow, BenchSettings
from lfvit_cli.bench.run import run_bench
from lfvit_cli.cost import count_stages
from lfvit_cli.errors import MeasureError, NetworkError, PolicyError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import load_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.method import EVALUATION
from lfvit_cli.networks.plugins import load_methods
from lfvit_cli.networks.stages import stages_of, walk
from lfvit_cli.policies import Criterion, ExitPolicy
from lfvit_cli.runtime.devices import keep_freed_memory
from lfvit_cli.runtime.tuning import Tuning, TuningCache, Workload

NARROW = "embed_dim=48,num_heads=3,depth=2,num_classes=10"
LF, DEIT = f"lf_deit_tiny:{NARROW}", f"deit_tiny_patch16_224:{NARROW}"

# MACs that each stage adds.
STAGES = {spec: tuple(row.macs for row in count_stages(spec, build(spec))) for spec in (LF, DEIT)}


def bench(listing: Listing | None = None, **changes: object) -> BenchRecord:
    """A quick benchmark of two narrow networks on 24 demo photos."""
    listing = listing or labelled_photos("test")
    chosen = {
        "models": (LF, DEIT),
        "reference": DEIT,
        "data": "photos",
        "listing_sha256": listing.sha256,
        "max_photos": 24,
        "batch_sizes": (8,),
        "device": "cpu",
        "min_seconds": 0.0,
    }
    return run_bench(BenchSettings.model_validate(chosen | changes), listing, lambda *_: None)


EXIT_AT_ONCE = {LF: ExitPolicy.at(0.0)}


@pytest.fixture(scope="module")
def record() -> BenchRecord:
    """One benchmark with two batch sizes and two precisions."""
    return bench(batch_sizes=(1, 8), dtypes=("float32", "bfloat16"), exit_rates=(0.5,))


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
        assert row.answered == tuple(np.sum(raw.answered, axis=(0, 1)))
        assert sum(row.answered) == images
        assert row.exit_rate == sum(row.answered[:-1]) / images
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
        answered = np.sum(raw[row.model, row.batch_size, row.dtype].answered, axis=1)
        macs = answered @ np.cumsum(STAGES[row.model]) / (batches * row.batch_size)
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
    record = bench(models=(LF,), exit_rates=(exit_rate,))
    assert record.rows[0].exit_rate == measured


def test_a_threshold_is_used_as_it_is() -> None:
    """Every confidence reaches 0; the reference is timed although it was not named."""
    record = bench(models=(LF,), policies=EXIT_AT_ONCE)
    assert [(row.model, row.policy) for row in record.rows] == [(LF, ExitPolicy.at(0.0)), (DEIT, None)]
    assert record.rows[0].exit_rate == 1
    assert "assumption" not in " ".join(record.warnings)


def test_a_calibrated_threshold_is_no_assumption_and_known_accuracy_is_marked() -> None:
    """Each goes to the model it belongs to; accuracy of untimed weights says that it comes from predictions."""
    record = bench(policies={LF: ExitPolicy.at(0.3)}, known_top1={DEIT: 0.9})
    by_model = {row.model: row for row in record.rows}
    assert by_model[LF].policy == ExitPolicy.at(0.3)
    assert (by_model[LF].top1, by_model[LF].top1_from) == (None, None)
    assert (by_model[DEIT].top1, by_model[DEIT].top1_from) == (0.9, "predictions")
    assert "assumption" not in " ".join(record.warnings)


def test_trained_weights_are_marked_on_the_photos(tmp_path: Path) -> None:
    """Top-1 is that of the very answers at the threshold, where the classes are the photos'."""
    network = build(LF)
    save_file(network.state_dict(), tmp_path / "lf.safetensors")
    record = bench(checkpoints={LF: str(tmp_path / "lf.safetensors")}, policies={LF: ExitPolicy.at(0.2)})
    photos = load_photos(labelled_photos("test"), TransformSettings(**evaluation_settings(network)), limit=24)
    pictures = normalise(photos.pixels, TransformSettings(**evaluation_settings(network)))
    answers = walk(stages_of(network), pictures, ExitPolicy.at(0.2))
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
    """A network that asks for 32 petabytes for every image beyond some number."""

    num_classes = 3
    pretrained_cfg = EVALUATION

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.layer = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Real logits where the memory is there."""
        torch.empty(max(0, len(images) - self.most) * 2**55, dtype=torch.uint8)
        logits: Tensor = self.layer(images.mean(dim=(2, 3)))
        return logits


def bench_of(network: nn.Module, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> BenchRecord:
    """A benchmark of a network that has no name."""
    settings = TransformSettings(**evaluation_settings(network))
    entrant = Entrant("greedy", network, ("full",), (1,), settings, trained=False)
    monkeypatch.setattr(run, "enter", lambda *_: entrant)
    return bench(models=("greedy",), reference="greedy", batch_sizes=(batch_size,))


def test_a_batch_that_does_not_fit_in_memory_runs_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocation really fails; the row says in which parts the stage ran, and a warning says why."""
    record = bench_of(Greedy(3), monkeypatch, 8)
    assert record.rows[0].limits == {"full": 2}
    assert "does not fit in memory: it ran in parts of 2" in " ".join(record.warnings)


def test_a_network_that_fits_no_batch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a remedy."""
    with pytest.raises(MeasureError, match="not even a batch of one"):
        bench_of(Greedy(0), monkeypatch, 4)


def test_exit_rates_are_swept_in_one_run() -> None:
    """A row for each, the reference once, all on the same photos and with the same rounds."""
    record = bench(exit_rates=(0.0, 0.5, 1.0))
    assert [(row.model, row.asked_rate) for row in record.rows] == [(LF, 0.0), (LF, 0.5), (LF, 1.0), (DEIT, None)]
    assert [row.exit_rate for row in record.rows[:3]] == pytest.approx([0, 0.5, 1], abs=0.15)
    assert len({len(timings.seconds) for timings in record.timings}) == 1


def test_latency_is_that_of_single_images(record: BenchRecord) -> None:
    """Percentiles over all timed images at batch 1, in order; none where images share a batch."""
    raw = {(timings.model, timings.batch_size, timings.dtype): timings for timings in record.timings}
    row = row_of(record, LF, 1, "float32")
    milliseconds = 1000 * np.concatenate(raw[LF, 1, "float32"].seconds)
    assert row.latency is not None
    assert row.latency.mean == pytest.approx(milliseconds.mean())
    assert row.latency.p99 == pytest.approx(np.percentile(milliseconds, 99))
    assert row.latency.p50 <= row.latency.p90 <= row.latency.p99
    assert row_of(record, LF, 8, "float32").latency is None


def test_phases_make_up_an_images_time(record: BenchRecord) -> None:
    """Stages, exit, preparation and idle; all of them about the time of a round."""
    row = row_of(record, LF, 8, "float32")
    assert set(row.phase_milliseconds) == {"location", "focus", "exit", "preparation", "idle"}
    assert set(row_of(record, DEIT, 8, "float32").phase_milliseconds) == {"full", "idle"}
    assert sum(row.phase_milliseconds.values()) == pytest.approx(row.milliseconds_per_batch.median / 8, rel=0.7)


def test_work_is_set_against_the_ceiling_of_the_same_run(record: BenchRecord) -> None:
    """A share of the matrix products' rate in that precision."""
    ceilings = {ceiling.dtype: ceiling.macs_per_second for ceiling in record.ceilings}
    assert set(ceilings) == {"float32", "bfloat16"}
    for row in record.rows:
        expected = row.expected_macs * row.images_per_second.median / ceilings[row.dtype]
        assert row.utilisation == pytest.approx(expected)
        assert 0 < row.utilisation < 1


def test_a_queue_is_timed_as_a_whole() -> None:
    """A round of eight batches is one piece; the exit rate is counted all the same."""
    record = bench(schedule="queued", later_batch=4, exit_rates=(0.5,), batch_sizes=(4,), min_rounds=2)
    row, raw = record.rows[0], record.timings[0]
    assert (row.schedule, row.later_batch, raw.images) == ("queued", 4, 32)
    assert [len(pieces) for pieces in raw.seconds] == [1, 1]
    assert row.exit_rate == pytest.approx(0.5, abs=0.15)
    assert row.latency is None


@pytest.mark.parametrize(("order", "least", "most"), [("easy", 0.9, 1.0), ("hard", 0.0, 0.1)])
def test_the_mixture_can_be_chosen(order: str, least: float, most: float) -> None:
    """With a threshold that lets half of all photos exit, nearly all of the easy half do, and none of the hard."""
    record = bench(order=order, exit_rates=(0.5,), min_rounds=2)
    assert least <= record.rows[0].exit_rate <= most
    assert "half of the photos" in " ".join(record.warnings)


def test_sorted_batches_are_all_easy_or_all_hard() -> None:
    """Of three batches of eight, the first exits whole and the last goes on whole."""
    record = bench(order="sorted", exit_rates=(0.5,), min_rounds=3, round_photos=8)
    assert [pieces[0] for pieces in record.timings[0].answered] == [[8, 0], [4, 4], [0, 8]]


def test_an_order_needs_a_confidence() -> None:
    """Of a network that exits early; the remedy is named."""
    with pytest.raises(MeasureError, match="without a network that exits early"):
        bench(models=(DEIT,), order="hard")


def test_from_files_to_answers() -> None:
    """Measured beside the network alone, where it is asked for; else there is none."""
    row = bench(end_to_end=True, min_rounds=2).rows[0]
    assert bench(min_rounds=2).rows[0].end_to_end is None
    assert row.end_to_end is not None
    assert row.end_to_end.low > 0


def test_traces_are_written_after_the_timing(tmp_path: Path) -> None:
    """One for each contender, with the stages by their names."""
    listing = labelled_photos("test")
    settings = BenchSettings(
        models=(LF,), reference=DEIT, data="", listing_sha256="", max_photos=8, batch_sizes=(4,), min_seconds=0.0
    )
    run_bench(settings, listing, lambda *_: None, tmp_path / "traces")
    files = sorted((tmp_path / "traces" / "float32-4").iterdir())
    assert len(files) == 2
    names = {event.get("name") for event in json.loads(files[1].read_text())["traceEvents"]}
    assert {"location", "exit"} <= names


def test_the_fastest_way_is_used_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for once; the row says what it is."""
    sought = []

    def found(work: Workload, _report: object) -> Tuning:
        sought.append(work)
        return Tuning(channels_last=True, threads=1)

    monkeypatch.setattr(entrants, "tune", found)
    monkeypatch.setattr(entrants, "TuningCache", lambda: TuningCache(tmp_path / "tuning.json"))
    threads = torch.get_num_threads()
    try:
        for _ in range(2):
            record = bench(autotuned=True, min_rounds=2)
            assert [(row.channels_last, row.threads) for row in record.rows] == [(True, 1)] * 2
    finally:
        torch.set_num_threads(threads)
    assert len(sought) == 2


@pytest.fixture
def three(exit_vit: Path) -> str:
    """A narrow network of three stages from outside the package."""
    load_methods([str(exit_vit)])
    return f"exit_vit_small:{NARROW.replace('depth=2', 'depth=12')}"


@pytest.mark.parametrize("schedule", ["immediate", "queued"])
def test_three_stages_are_charged_for_what_they_ran(three: str, schedule: str) -> None:
    """An exit after the second stage costs the first two, in the row, in the promise and in every round."""
    macs = tuple(row.macs for row in count_stages(three, build(three)))
    record = bench(models=(three,), exit_rates=(0.6,), schedule=schedule, min_rounds=3)
    row, raw = record.rows[0], record.timings[0]
    assert (row.stages, row.stage_macs) == (("after_4", "after_8", "full"), macs)
    assert row.policy is not None
    assert len(row.policy.thresholds) == 2
    assert row.policy.thresholds[0] == row.policy.thresholds[1]
    assert len(row.answered) == 3
    assert row.answered == tuple(np.sum(raw.answered, axis=(0, 1)))
    assert row.answered[1] > 0
    assert row.exit_rate == pytest.approx(0.6, abs=0.15)
    cumulated = np.cumsum(macs)
    assert row.expected_macs == pytest.approx(np.dot(row.answered, cumulated) / sum(row.answered))
    assert row.promised_speedup == pytest.approx(STAGES[DEIT][0] / row.expected_macs)


def test_a_policy_for_each_of_three_stages(three: str) -> None:
    """Answers by the thresholds that are given; too many are refused before anything is timed."""
    record = bench(models=(three,), policies={three: ExitPolicy.at(0.0, 2.0)}, min_rounds=2)
    assert record.rows[0].answered[1:] == (0, 0)
    record = bench(models=(three,), policies={three: ExitPolicy.at(2.0, 0.0)}, min_rounds=2)
    assert record.rows[0].answered[0] == record.rows[0].answered[2] == 0
    with pytest.raises(PolicyError, match="3 exit thresholds were given for the stages after_4, after_8, full"):
        bench(models=(three,), policies={three: ExitPolicy.at(0.1, 0.1, 0.1)})


@pytest.mark.parametrize("criterion", list(Criterion))
def test_exits_by_any_criterion_reach_the_rate_asked_for(three: str, criterion: Criterion) -> None:
    """With three stages, by one common threshold."""
    record = bench(models=(three,), exit_rates=(0.5,), criterion=criterion, min_rounds=3, batch_sizes=(24,))
    assert record.rows[0].policy is not None
    assert record.rows[0].policy.criterion is criterion
    assert record.rows[0].exit_rate == pytest.approx(0.5, abs=0.01)


@settings(deadline=None)
@given(
    values=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=1, max_size=20, unique=True),
    rate=st.floats(0, 1),
    criterion=st.sampled_from(Criterion),
)
def test_the_common_threshold_lets_the_share_stop(
    values: list[tuple[float, ...]], rate: float, criterion: Criterion
) -> None:
    """To the nearest image, where no two images are as sure as each other; else at least so many."""
    tensor = torch.tensor(values).T
    threshold = exit_threshold(tensor, rate, criterion)
    stopped = int(criterion.exits(tensor, threshold).any(dim=0).sum())
    surest = tensor.amin(0) if criterion.exits_below else tensor.amax(0)
    wanted = round(rate * len(values))
    assert stopped >= wanted
    if len(surest.unique()) == len(values):
        assert stopped == wanted


def test_the_record_says_what_was_done_to_the_process(record: BenchRecord) -> None:
    """Whether it kept the memory that it freed."""
    assert isinstance(record.keeps_freed_memory, bool)
    assert record.keeps_freed_memory == keep_freed_memory()


def test_what_depends_on_the_image_is_counted_on_the_photos() -> None:
    """MACs are the mean over these very photos, so that the promise is theirs; a warning says so."""
    spec = "spvit_deit_tiny:embed_dim=48,num_heads=3,num_classes=10"
    record = bench(models=(spec,))
    torch.manual_seed(0)
    network = build(spec)
    photos = load_photos(labelled_photos("test"), TransformSettings(), limit=24, seed=0)
    with torch.inference_mode():
        macs = [
            count_stages(spec, network, image[None])[0].macs for image in normalise(photos.pixels, TransformSettings())
        ]
    assert len(set(macs)) > 12
    assert record.rows[0].expected_macs == pytest.approx(np.mean(macs), abs=1)
    assert record.rows[0].promised_speedup == pytest.approx(STAGES[DEIT][0] / np.mean(macs))
    assert "MACs are the mean over 24 photos" in " ".join(record.warnings)
