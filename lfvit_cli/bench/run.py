"""The benchmark: networks side by side on real photos, the speed-up promised beside the one realised."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lfvit_cli.bench.cautions import warnings_of
from lfvit_cli.bench.end_to_end import time_end_to_end
from lfvit_cli.bench.entrants import Entrant, Place, count_on, enter, load, make_contenders, photo_order, pictures_for
from lfvit_cli.bench.record import BenchRecord, BenchSettings, Ceiling, Decoding
from lfvit_cli.bench.rows import Group, make_row, raw_timings
from lfvit_cli.bench.timing import Contender, batches_per_round, photo_stream, time_rounds
from lfvit_cli.bench.tracing import trace
from lfvit_cli.errors import MeasureError, RuntimeSettingError
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import Photos
from lfvit_cli.images.transforms import TransformSettings
from lfvit_cli.records import Progress, capture_environment, command_line, now, recorded_path
from lfvit_cli.runtime.ceilings import measure_ceilings
from lfvit_cli.runtime.devices import choose_device, choose_dtype, is_out_of_memory, keep_freed_memory, use_precision
from lfvit_cli.runtime.energy import energy_meter

END_TO_END_ROUNDS, END_TO_END_PHOTOS = 3, 128


def run_bench(settings: BenchSettings, listing: Listing, progress: Progress, traces: Path | None = None) -> BenchRecord:
    """Time every model at every batch size and precision, and set the result beside what the MACs promise.

    Args:
        settings: what to time, and how.
        listing: the photos.
        progress: called with (done, total, what) as the work goes on.
        traces: folder for a Chrome trace of one round of each contender, made after the timing; None for none.

    Raises:
        NetworkError: a model that cannot be built, or a checkpoint that does not fit.
        ImagesError: no readable photo.
        RuntimeSettingError: a device or precision that this machine lacks, or a schedule that no network can follow.
        MeasureError: not even a batch of one fits in memory, or an order of photos that no network can tell.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    for dtype in settings.dtypes:
        choose_dtype(dtype, device)
    if settings.graphs and device.type != "cuda":
        raise RuntimeSettingError(f"{device} has no CUDA graphs", "Leave out --graphs, or use a GPU.")
    entrants = [enter(name, settings) for name in dict.fromkeys((*settings.models, settings.reference))]
    if settings.schedule == "queued" and not any(entrant.exits for entrant in entrants):
        raise RuntimeSettingError(
            "none of these networks has a later stage to queue for", "Use --schedule immediate, or add one."
        )
    keeps = keep_freed_memory()
    photos = load(entrants, listing, settings, progress)
    entrants = [count_on(entrant, photos[entrant.transform]) for entrant in entrants]
    environment = capture_environment(str(device))
    name = environment.device.name if environment.device else str(device)
    threads = torch.get_num_threads()
    try:
        groups = list(_time_groups(entrants, photos, device, name, settings, progress, traces))
        rows = tuple(make_row(group, index, photos, settings) for group in groups for index in range(len(group)))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MeasureError("not even a batch of one fits in memory", "Use a smaller network or image.") from error
    finally:
        use_precision("float32")
        torch.set_num_threads(threads)
    return BenchRecord(
        created=now(),
        command=command_line(),
        environment=environment,
        settings=settings.model_copy(
            update={"checkpoints": {name: recorded_path(path) for name, path in settings.checkpoints.items()}}
        ),
        warnings=tuple(warnings_of(entrants, photos, groups, rows, settings)),
        keeps_freed_memory=keeps,
        rows=rows,
        decoding=tuple(_decoding(loaded) for loaded in photos.values()),
        ceilings=tuple({group.place.dtype: group.ceiling for group in groups}.values()),
        timings=tuple(raw_timings(group, index) for group in groups for index in range(len(group))),
    )


def _time_groups(
    entrants: Sequence[Entrant],
    photos: dict[TransformSettings, Photos],
    device: torch.device,
    device_name: str,
    settings: BenchSettings,
    progress: Progress,
    traces: Path | None,
) -> Iterator[Group]:
    threads = torch.get_num_threads()
    for dtype in settings.dtypes:
        use_precision(dtype)
        precision = choose_dtype(dtype, device)
        ceilings = measure_ceilings(device, precision)
        ceiling = Ceiling(dtype=dtype, **ceilings._asdict())
        images = pictures_for(photos, precision, device)
        for batch_size in settings.batch_sizes:
            torch.set_num_threads(threads)  # one found fastest with fewer may have left them so
            place = Place(device, device_name, dtype, batch_size)
            pairs = make_contenders(entrants, images, place, settings, progress)
            group = time_group(pairs, place, ceiling, settings, progress)
            if settings.end_to_end:
                _time_files(group, photos, progress)
            if traces is not None:
                trace(group.contenders, batch_size, traces / f"{dtype}-{batch_size}")
            yield group


def time_group(
    pairs: Sequence[tuple[Entrant, Contender]],
    place: Place,
    ceiling: Ceiling,
    settings: BenchSettings,
    progress: Progress,
) -> Group:
    """Time the contenders of one precision and batch size in turn."""
    contenders = [contender for _, contender in pairs]
    order = photo_order(pairs, settings.order, place.batch_size)
    seed = None if settings.order == "sorted" else settings.seed
    timings = time_rounds(
        contenders,
        place.batch_size,
        photo_stream(order, place.batch_size, seed),
        min_rounds=settings.min_rounds,
        min_seconds=settings.min_seconds,
        batches=max(batches_per_round(place.batch_size, each.schedule, settings.round_photos) for each in contenders),
        progress=progress,
        meter=energy_meter(place.device),
    )
    return Group(place, [entrant for entrant, _ in pairs], contenders, timings, ceiling)


def _time_files(group: Group, photos: dict[TransformSettings, Photos], progress: Progress) -> None:
    """Every contender in turn, a few times, over the same files."""
    for done in range(END_TO_END_ROUNDS):
        for entrant, contender, rates in zip(group.entrants, group.contenders, group.end_to_end, strict=True):
            loaded = photos[entrant.transform]
            files = [loaded.listing.root / path for path in loaded.paths[:END_TO_END_PHOTOS]]
            rates.append(time_end_to_end(contender, files, entrant.transform, group.place.batch_size))
        progress(done + 1, END_TO_END_ROUNDS, f"rounds of {len(files)} files, end to end")


def _decoding(photos: Photos) -> Decoding:
    return Decoding(
        image_size=photos.pixels.shape[-1],
        photos=len(photos),
        unreadable=tuple(photo.path for photo in photos.unreadable),
        seconds=photos.decode_seconds,
        images_per_second=photos.images_per_second,
    )
