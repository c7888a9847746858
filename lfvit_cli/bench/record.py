"""What a benchmark is asked and what it answers, every number with its circumstances."""

from typing import Literal

from pydantic import Field

from lfvit_cli.bench.statistics import Estimate
from lfvit_cli.bench.timing import IMAGES_PER_ROUND
from lfvit_cli.policies import Criterion, ExitPolicy
from lfvit_cli.records import Facts, Record
from lfvit_cli.runtime.schedules import DEFAULT_PATIENCE, ScheduleName

Order = Literal["shuffled", "sorted", "easy", "hard"]


class BenchSettings(Facts):
    """All that the timings depend on: the options of ``lfvit bench``, and what they led to.

    Attributes:
        models: specs, in the order of the rows.
        reference: the spec that speed-ups are measured against; timed as well if not among the models.
        checkpoints: what is loaded into a model; the others keep random weights.
        imports: SHA-256 of every file that added networks, by its name as given.
        data: where the photos come from.
        listing_sha256: hash of the photos' list.
        policies: when the answers of a model stand, where that was given or calibrated on other photos beforehand.
        exit_rates: shares of the photos that stop before the last stage, for all other models; their thresholds are
            found on these photos.
        criterion: what those thresholds are of; None for each method's own.
        known_top1: top-1 of models on the grocery test photos, from shipped predictions.
    """

    models: tuple[str, ...]
    reference: str
    checkpoints: dict[str, str] = Field(default_factory=dict)
    imports: dict[str, str] = Field(default_factory=dict)
    data: str
    listing_sha256: str
    policies: dict[str, ExitPolicy] = Field(default_factory=dict)
    exit_rates: tuple[float, ...] = (0.78,)
    criterion: Criterion | None = None
    known_top1: dict[str, float] = Field(default_factory=dict)
    max_photos: int = 512
    batch_sizes: tuple[int, ...] = (32,)
    dtypes: tuple[str, ...] = ("float32",)
    device: str = "auto"
    compiled: bool = False
    graphs: bool = False
    autotuned: bool = False
    threads: int | None = None
    schedule: ScheduleName = "immediate"
    later_batch: int | None = None
    patience: int = DEFAULT_PATIENCE
    order: Order = "shuffled"
    round_photos: int = IMAGES_PER_ROUND
    end_to_end: bool = False
    min_rounds: int = 10
    min_seconds: float = 2.0
    seed: int = 0


class Percentiles(Facts):
    """Of the latency of single images, in milliseconds."""

    mean: float
    p50: float
    p90: float
    p99: float


class BenchRow(Facts):
    """One model at one batch size and precision.

    Attributes:
        model: its spec.
        batch_size: images a batch, as run.
        dtype: precision.
        device: where it ran.
        stages: their names.
        stage_macs: MACs that each stage adds for one image.
        policy: when an answer stood; None for a single stage.
        asked_rate: the exit rate that the policy was chosen for; None where it was given, or for a single stage.
        answered: timed images answered by each stage, in the order of the stages.
        exit_rate: share of the timed images answered before the last stage; 0 for a single stage.
        expected_macs: MACs per image at these counts.
        images_per_second: over rounds.
        milliseconds_per_batch: over rounds, each round's mean.
        latency: of single images, where the batch is one image answered at once.
        phase_milliseconds: an image's share of each stage, of the exit, of preparation (of later stages, and the
            gathering of what goes on), and ``idle``, in which no phase ran; medians over rounds.
        end_to_end: images/s from files to answers, decoding and transfer included; None where it was not asked for.
        peak_memory_bytes: of one batch.
        utilisation: share of the matrix products' ceiling, measured in the same run, that the MACs were done at.
        joules: an image, median over rounds; None where the device does not tell.
        schedule: when later stages ran.
        later_batch: images a batch of the later stages, where that differs.
        compiled: whether the stages went through ``torch.compile``.
        graphs: whether they were recorded.
        channels_last: whether images lay in memory pixel by pixel.
        threads: CPU threads.
        limits: most rows at once of each stage that ran out of memory.
        promised_speedup: the reference's MACs over ``expected_macs``.
        realised_speedup: ``promised_speedup`` times ``realised_over_promised``.
        realised_speedup_interval: its bootstrap 95 % interval, low and high.
        realised_over_promised: median over rounds of the reference's time over this model's on the same photos,
            each divided by what the exits of that very round promise.
        trained: False for random weights: the speed is real, the answers are not.
        top1: share of the photos answered right under that policy, 0 to 1; None where it is unknown.
        top1_from: ``this run``, or shipped ``predictions`` for the grocery test photos.
    """

    model: str
    batch_size: int
    dtype: str
    device: str
    stages: tuple[str, ...]
    stage_macs: tuple[int, ...]
    policy: ExitPolicy | None
    asked_rate: float | None
    answered: tuple[int, ...]
    exit_rate: float
    expected_macs: float
    images_per_second: Estimate
    milliseconds_per_batch: Estimate
    latency: Percentiles | None
    phase_milliseconds: dict[str, float]
    end_to_end: Estimate | None
    peak_memory_bytes: int | None
    utilisation: float
    joules: float | None
    schedule: ScheduleName
    later_batch: int | None
    compiled: bool
    graphs: bool
    channels_last: bool
    threads: int
    limits: dict[str, int]
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
    """Every timing behind a row.

    Attributes:
        model: as in the row.
        batch_size: as in the row.
        dtype: as in the row.
        asked_rate: as in the row.
        images: of each piece that was timed as a whole: a batch, or under the queued schedule a round of them.
        seconds: of each piece, a list a round.
        answered: images of each piece answered by each stage, a list a round.
    """

    model: str
    batch_size: int
    dtype: str
    asked_rate: float | None
    images: int
    seconds: list[list[float]]
    answered: list[list[list[int]]]


class Ceiling(Facts):
    """What the device can do at most in one precision, measured in the same run."""

    dtype: str
    macs_per_second: float
    bytes_per_second: float


class BenchRecord(Record):
    """A benchmark and its circumstances.

    Attributes:
        keeps_freed_memory: whether the process was told to keep the memory it frees, which saves large networks time.
    """

    kind: Literal["bench"] = "bench"
    schema_version: Literal[3] = 3
    keeps_freed_memory: bool
    settings: BenchSettings
    rows: tuple[BenchRow, ...]
    decoding: tuple[Decoding, ...]
    ceilings: tuple[Ceiling, ...]
    timings: tuple[RawTimings, ...]

    @property
    def device_name(self) -> str:
        """The maker's name of the device, as far as it is known."""
        device = self.environment.device
        return device.name if device else self.settings.device
