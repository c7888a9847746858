"""What a benchmark is asked and what it answers, every number with its circumstances."""

from typing import Literal

from pydantic import Field

from lfvit_cli.measure.record import Facts, Record
from lfvit_cli.measure.statistics import Estimate


class BenchSettings(Facts):
    """All that the timings depend on.

    Attributes:
        models: specs, in the order of the rows.
        reference: the spec that speed-ups are taken against; timed as well if not among the models.
        checkpoints: what is loaded into a model; the others keep random weights.
        data: where the photos come from.
        listing_sha256: hash of the photos' list.
        max_photos: at most so many photos are decoded.
        batch_sizes: images a batch.
        dtypes: precisions.
        device: where the networks run.
        compiled: whether stages go through ``torch.compile``.
        threads: CPU threads; None for PyTorch's choice.
        exit_rate: share of the photos that the threshold lets exit, where none is given or calibrated.
        threshold: confidence from which the earlier answer stands, for every model.
        calibrated: the same for some models, chosen on other photos beforehand.
        known_top1: top-1 of models whose weights are not at hand, from their predictions on the same photos.
        min_rounds: least timed rounds of each row.
        min_seconds: least timed seconds of each row.
        seed: of random weights, of the photos' order and of their sample.
    """

    models: tuple[str, ...]
    reference: str
    checkpoints: dict[str, str] = Field(default_factory=dict)
    data: str
    listing_sha256: str
    max_photos: int = 512
    batch_sizes: tuple[int, ...] = (32,)
    dtypes: tuple[str, ...] = ("float32",)
    device: str = "auto"
    compiled: bool = False
    threads: int | None = None
    exit_rate: float = 0.78
    threshold: float | None = None
    calibrated: dict[str, float] = Field(default_factory=dict)
    known_top1: dict[str, float] = Field(default_factory=dict)
    min_rounds: int = 10
    min_seconds: float = 2.0
    seed: int = 0


class BenchRow(Facts):
    """One model at one batch size and precision.

    Attributes:
        model: its spec.
        batch_size: images a batch, as run.
        dtype: precision.
        device: where it ran.
        threshold: the exit threshold used; None for a single stage.
        exit_rate: share of the timed images answered before the last stage, as measured; 0 for a single stage.
        expected_macs: MACs an image at that exit rate.
        images_per_second: over rounds.
        milliseconds_per_batch: over rounds, each round's mean.
        peak_memory_bytes: of one batch.
        promised_speedup: the reference's MACs over ``expected_macs``.
        realised_speedup: ``promised_speedup`` times ``realised_over_promised``.
        realised_speedup_interval: its bootstrap 95 % interval, low and high.
        realised_over_promised: median over rounds of the reference's time over this model's on the same photos,
            each divided by what the exits of that very round promise.
        trained: False for random weights: the speed is real, the answers are not.
        top1: share of the photos answered right at that threshold, 0 to 1; None where it is unknown.
        top1_from: ``this run``, or ``predictions`` made beforehand by weights that are not timed here.
    """

    model: str
    batch_size: int
    dtype: str
    device: str
    threshold: float | None
    exit_rate: float
    expected_macs: float
    images_per_second: Estimate
    milliseconds_per_batch: Estimate
    peak_memory_bytes: int | None
    promised_speedup: float
    realised_speedup: float
    realised_speedup_interval: tuple[float, float]
    realised_over_promised: float
    trained: bool
    top1: float | None
    top1_from: Literal["this run", "predictions"] | None


class Decoding(Facts):
    """Reading and decoding the photos, outside the timed part."""

    image_size: int
    photos: int
    unreadable: tuple[str, ...]
    seconds: float
    images_per_second: float


class RawTimings(Facts):
    """Every timing behind a row: seconds of each batch, a list a round, and the images that exited in it."""

    model: str
    batch_size: int
    dtype: str
    seconds: list[list[float]]
    exited: list[int]


class BenchRecord(Record):
    """A benchmark and its circumstances."""

    kind: Literal["bench"] = "bench"
    schema_version: Literal[1] = 1
    settings: BenchSettings
    rows: tuple[BenchRow, ...]
    decoding: tuple[Decoding, ...]
    timings: tuple[RawTimings, ...]
