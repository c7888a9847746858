"""What a reader must know before trusting a benchmark."""

from collections.abc import Iterator, Sequence

from lfvit_cli.bench.entrants import PHOTOS_COUNTED, Entrant
from lfvit_cli.bench.record import BenchRow, BenchSettings
from lfvit_cli.bench.rows import Group
from lfvit_cli.images.loading import Photos
from lfvit_cli.images.transforms import TransformSettings

WIDE_SPREAD = 0.2
ORDERS = {
    "sorted": "photos came by falling confidence, so that batches are all easy or all hard",
    "easy": "only the half of the photos with the higher confidences was used",
    "hard": "only the half of the photos with the lower confidences was used",
}


def warnings_of(
    entrants: Sequence[Entrant],
    photos: dict[TransformSettings, Photos],
    groups: Sequence[Group],
    rows: Sequence[BenchRow],
    settings: BenchSettings,
) -> Iterator[str]:
    """One line for each reason to be careful."""
    loaded = next(iter(photos.values()))
    if loaded.unreadable:
        yield f"{len(loaded.unreadable)} of {len(loaded.listing)} photos cannot be read and were skipped"
    untrained = [entrant.name for entrant in entrants if not entrant.trained]
    if untrained:
        yield f"random weights in {', '.join(untrained)}: the speed is real, the answers are not"
    varying = [entrant.name for entrant in entrants if entrant.varies]
    if varying:
        some = min(PHOTOS_COUNTED, len(loaded))
        yield f"what an image costs depends on the image in {', '.join(varying)}: MACs are the mean over {some} photos"
    if any(entrant.exits and entrant.name not in settings.policies for entrant in entrants):
        rates = ", ".join(f"{rate:.0%}" for rate in settings.exit_rates)
        yield (
            f"exit thresholds were set on these photos' confidences to let {rates} exit: "
            "the exit rate is an assumption, not a finding"
        )
    if settings.order in ORDERS:
        yield f"{ORDERS[settings.order]}; the thresholds are for all of them"
    yield from _about_groups(groups, len(loaded))
    for row in rows:
        spread = row.milliseconds_per_batch.spread
        if spread > WIDE_SPREAD:
            yield (
                f"{row.model} at batch {row.batch_size} in {row.dtype}: the middle half of its timings spreads over "
                f"{spread:.0%} of their median; a quieter machine or more --seconds would tell more"
            )


def _about_groups(groups: Sequence[Group], photos: int) -> Iterator[str]:
    told = set()
    for group in groups:
        size, dtype = group.place.batch_size, group.place.dtype
        if size > photos:
            yield f"a batch of {size} holds some of the {photos} photos more than once"
        for contender in group.contenders:
            for stage, limit in contender.runner.limits.items():
                yield (
                    f"{contender.name}: a batch of {size} of stage {stage} in {dtype} does not fit in memory: "
                    f"it ran in parts of {limit}"
                )
            if (reason := contender.runner.fallback) is not None and contender.name not in told:
                told.add(contender.name)
                yield f"{contender.name} ran neither compiled nor recorded, because that failed: {reason}"
