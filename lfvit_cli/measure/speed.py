"""The benchmark: networks side by side on real photos, the speed-up promised beside the one realised."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import Photos, load_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.measure.cost import count_stages, expected_macs
from lfvit_cli.measure.errors import MeasureError
from lfvit_cli.measure.record import capture_environment, command_line, now, recorded_path
from lfvit_cli.measure.speed_record import BenchRecord, BenchRow, BenchSettings, Decoding, RawTimings
from lfvit_cli.measure.statistics import estimate
from lfvit_cli.measure.timing import Contender, Progress, Timings, time_rounds
from lfvit_cli.networks.build import build, count_classes, evaluation_settings
from lfvit_cli.runtime.devices import choose_device, choose_dtype, is_out_of_memory, peak_memory
from lfvit_cli.runtime.runner import Runner

WIDE_SPREAD = 0.2


@dataclass(frozen=True)
class Entrant:
    """A network to be timed, before it has a device or a precision."""

    name: str
    network: nn.Module
    stage_macs: tuple[int, ...]
    transform: TransformSettings
    trained: bool


@dataclass(frozen=True)
class Group:
    """All entrants at one precision and batch size, timed together."""

    dtype: str
    batch_size: int
    contenders: dict[str, Contender]
    timings: dict[str, Timings]

    def exit_rates(self, name: str) -> list[float]:
        """Share of each round's images that exited early."""
        timings = self.timings[name]
        return [exited / (self.batch_size * len(timings.seconds[0])) for exited in timings.exited]

    def exit_rate(self, name: str) -> float:
        """Share of all timed images that exited early."""
        rates = self.exit_rates(name)
        return sum(rates) / len(rates)

    def macs(self, entrant: Entrant) -> float:
        """MACs an image at the measured exit rate."""
        return expected_macs(entrant.stage_macs, self.exit_rate(entrant.name))

    def kept_promises(self, entrant: Entrant, reference: Entrant) -> list[float]:
        """Each round's time ratio to the reference over the MACs ratio that this very round's exits promise.

        Round against round, since the mixture of a round swings the time of a network with exits: a median of bare
        time ratios would flatter it.
        """
        pairs = zip(self.timings[reference.name].rounds, self.timings[entrant.name].rounds, strict=True)
        rates = zip(self.exit_rates(reference.name), self.exit_rates(entrant.name), strict=True)
        return [
            (theirs / ours)
            * (expected_macs(entrant.stage_macs, rate) / expected_macs(reference.stage_macs, their_rate))
            for (theirs, ours), (their_rate, rate) in zip(pairs, rates, strict=True)
        ]


def run_bench(settings: BenchSettings, listing: Listing, progress: Progress) -> BenchRecord:
    """Time every model at every batch size and precision, and set the result beside what the MACs promise.

    Args:
        settings: what to time, and how.
        listing: the photos.
        progress: called with (done, total, what) as the work goes on.

    Raises:
        NetworkError: a model that cannot be built, or a checkpoint that does not fit.
        ImagesError: no readable photo.
        RuntimeSettingError: a device or precision that this machine lacks.
        MeasureError: not even a batch of one fits in memory.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    for dtype in settings.dtypes:
        choose_dtype(dtype, device)
    entrants = [_entrant(name, settings) for name in dict.fromkeys((*settings.models, settings.reference))]
    photos = _load(entrants, listing, settings, progress)
    groups = list(_time_groups(entrants, photos, device, settings, progress))
    rows = tuple(_row(group, entrant, entrants, photos, settings) for group in groups for entrant in entrants)
    return BenchRecord(
        created=now(),
        command=command_line(),
        environment=capture_environment(str(device)),
        settings=settings.model_copy(
            update={"checkpoints": {name: recorded_path(path) for name, path in settings.checkpoints.items()}}
        ),
        warnings=tuple(_warnings(entrants, photos, groups, rows, settings)),
        rows=rows,
        decoding=tuple(_decoding(loaded) for loaded in photos.values()),
        timings=tuple(_raw(group, entrant.name) for group in groups for entrant in entrants),
    )


def _entrant(name: str, settings: BenchSettings) -> Entrant:
    torch.manual_seed(settings.seed)
    checkpoint = settings.checkpoints.get(name)
    network = build(name, checkpoint=checkpoint)
    macs = tuple(row.macs for row in count_stages(name, network))
    return Entrant(name, network, macs, TransformSettings(**evaluation_settings(network)), checkpoint is not None)


def _load(
    entrants: Sequence[Entrant], listing: Listing, settings: BenchSettings, progress: Progress
) -> dict[TransformSettings, Photos]:
    """The photos as each transform prepares them, decoded once for all networks that share it."""
    photos = {}
    for transform in dict.fromkeys(entrant.transform for entrant in entrants):
        what = f"photos decoded at {transform.image_size} px"
        photos[transform] = load_photos(
            listing,
            transform,
            limit=settings.max_photos,
            seed=settings.seed,
            progress=lambda done, total, what=what: progress(done, total, what),  # type: ignore[misc]
        )
    return photos


def _time_groups(
    entrants: Sequence[Entrant],
    photos: dict[TransformSettings, Photos],
    device: torch.device,
    settings: BenchSettings,
    progress: Progress,
) -> Iterator[Group]:
    for dtype in settings.dtypes:
        precision = choose_dtype(dtype, device)
        images = {
            transform: normalise(loaded.pixels, transform, dtype=precision, device=device)
            for transform, loaded in photos.items()
        }
        contenders = {}
        for entrant in entrants:
            runner = Runner(entrant.network, device, precision, settings.compiled)
            threshold = _threshold(entrant.name, runner, images[entrant.transform], settings)
            contenders[entrant.name] = Contender(entrant.name, runner, images[entrant.transform], threshold)
        for batch_size in settings.batch_sizes:
            yield time_fitting(contenders, dtype, batch_size, settings, progress)


def _threshold(name: str, runner: Runner, images: torch.Tensor, settings: BenchSettings) -> float:
    """The threshold given or calibrated, or the measured confidence that lets the asked share of the photos exit."""
    if len(runner.stages) == 1:
        return math.inf
    if settings.threshold is not None:
        return settings.threshold
    if (calibrated := settings.calibrated.get(name)) is not None:
        return calibrated
    if settings.exit_rate == 0:
        return math.inf
    ranked = runner.first_confidences(images, settings.batch_sizes[0]).sort(descending=True).values
    return float(ranked[max(1, round(settings.exit_rate * len(ranked))) - 1])


def time_fitting(
    contenders: dict[str, Contender], dtype: str, batch_size: int, settings: BenchSettings, progress: Progress
) -> Group:
    """Time a group at the batch size asked for, or at the largest half of it that fits in memory."""
    try:
        timings = time_rounds(
            list(contenders.values()),
            batch_size,
            min_rounds=settings.min_rounds,
            min_seconds=settings.min_seconds,
            seed=settings.seed,
            progress=progress,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if batch_size == 1:
            raise MeasureError("not even a batch of one fits in memory", "Use a smaller network or image.") from error
    else:
        return Group(dtype, batch_size, contenders, timings)
    return time_fitting(contenders, dtype, batch_size // 2, settings, progress)


def _row(
    group: Group,
    entrant: Entrant,
    entrants: Sequence[Entrant],
    photos: dict[TransformSettings, Photos],
    settings: BenchSettings,
) -> BenchRow:
    reference = next(other for other in entrants if other.name == settings.reference)
    contender, seconds = group.contenders[entrant.name], group.timings[entrant.name].rounds
    batches = len(group.timings[entrant.name].seconds[0])
    promised = group.macs(reference) / group.macs(entrant)
    kept = estimate(group.kept_promises(entrant, reference))
    batch = contender.images[: group.batch_size]
    top1 = _top1(entrant, contender, photos[entrant.transform], group.batch_size)
    known = settings.known_top1.get(entrant.name) if top1 is None else None
    return BenchRow(
        model=entrant.name,
        batch_size=group.batch_size,
        dtype=group.dtype,
        device=str(contender.runner.device),
        threshold=contender.threshold if len(entrant.stage_macs) > 1 else None,
        exit_rate=group.exit_rate(entrant.name),
        expected_macs=group.macs(entrant),
        images_per_second=estimate([batches * group.batch_size / taken for taken in seconds]),
        milliseconds_per_batch=estimate([1000 * taken / batches for taken in seconds]),
        peak_memory_bytes=peak_memory(contender.runner.device, lambda: contender.runner(batch, contender.threshold)),
        promised_speedup=promised,
        realised_speedup=promised * kept.median,
        realised_speedup_interval=(promised * kept.low, promised * kept.high),
        realised_over_promised=kept.median,
        trained=entrant.trained,
        top1=known if top1 is None else top1,
        top1_from="this run" if top1 is not None else "predictions" if known is not None else None,
    )


def _top1(entrant: Entrant, contender: Contender, photos: Photos, batch_size: int) -> float | None:
    """Share of the photos answered right, outside the timing; None without labels of the network's own classes."""
    classes = photos.listing.class_names
    if not (entrant.trained and photos.listing.labelled and count_classes(entrant.network) == len(classes)):
        return None
    right = 0
    for images, labels in zip(contender.images.split(batch_size), photos.labels.split(batch_size), strict=True):
        right += int((contender.runner(images, contender.threshold).logits.argmax(dim=1).cpu() == labels).sum())
    return right / len(photos)


def _raw(group: Group, name: str) -> RawTimings:
    timings = group.timings[name]
    return RawTimings(
        model=name,
        batch_size=group.batch_size,
        dtype=group.dtype,
        seconds=timings.seconds,
        exited=timings.exited,
    )


def _decoding(photos: Photos) -> Decoding:
    return Decoding(
        image_size=photos.pixels.shape[-1],
        photos=len(photos),
        unreadable=tuple(photo.path for photo in photos.unreadable),
        seconds=photos.decode_seconds,
        images_per_second=photos.images_per_second,
    )


def _warnings(
    entrants: Sequence[Entrant],
    photos: dict[TransformSettings, Photos],
    groups: Sequence[Group],
    rows: Sequence[BenchRow],
    settings: BenchSettings,
) -> Iterator[str]:
    loaded = next(iter(photos.values()))
    if loaded.unreadable:
        yield f"{len(loaded.unreadable)} of {len(loaded.listing)} photos cannot be read and were skipped"
    untrained = [entrant.name for entrant in entrants if not entrant.trained]
    if untrained:
        yield f"random weights in {', '.join(untrained)}: the speed is real, the answers are not"
    exiting = {entrant.name for entrant in entrants if len(entrant.stage_macs) > 1}
    if settings.threshold is None and exiting - settings.calibrated.keys():
        yield (
            f"exit thresholds were set on these photos' confidences to let {settings.exit_rate:.0%} exit: "
            "the exit rate is an assumption, not a finding"
        )
    asked = [(dtype, batch_size) for dtype in settings.dtypes for batch_size in settings.batch_sizes]
    for (dtype, batch_size), group in zip(asked, groups, strict=True):
        if group.batch_size < batch_size:
            yield f"a batch of {batch_size} in {dtype} does not fit in memory: {group.batch_size} was timed instead"
        if group.batch_size > len(loaded):
            yield f"a batch of {group.batch_size} holds some of the {len(loaded)} photos more than once"
    for row in rows:
        spread = row.milliseconds_per_batch.spread
        if spread > WIDE_SPREAD:
            yield (
                f"{row.model} at batch {row.batch_size} in {row.dtype}: the middle half of its timings spreads over "
                f"{spread:.0%} of their median; a quieter machine or more --seconds would tell more"
            )
