"""The networks of a benchmark: built, counted, given their photos, and made ready to be timed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lfvit_cli.bench.record import BenchSettings, Order
from lfvit_cli.bench.timing import Contender, batches_per_round, photo_stream
from lfvit_cli.cost import count_stages
from lfvit_cli.errors import MeasureError
from lfvit_cli.images.listing import Listing
from lfvit_cli.images.loading import Photos, load_photos
from lfvit_cli.images.transforms import TransformSettings, normalise
from lfvit_cli.networks.build import build, evaluation_settings
from lfvit_cli.networks.method import default_criterion
from lfvit_cli.policies import Criterion, ExitPolicy
from lfvit_cli.records import Progress
from lfvit_cli.runtime.devices import choose_dtype
from lfvit_cli.runtime.graphs import cuda_capture
from lfvit_cli.runtime.runner import Execution, Runner
from lfvit_cli.runtime.schedules import Schedule
from lfvit_cli.runtime.tuning import TuningCache, Workload, tune

PHOTOS_COUNTED = 64


@dataclass(frozen=True)
class Entrant:
    """A network to be timed, before it has a device or a precision.

    Attributes:
        name: its spec.
        network: in evaluation mode, on the CPU.
        stages: their names.
        stage_macs: MACs of each, for one image.
        transform: how it takes its images.
        trained: whether it has weights of a checkpoint.
        varies: whether its MACs depend on the image.
    """

    name: str
    network: nn.Module
    stages: tuple[str, ...]
    stage_macs: tuple[int, ...]
    transform: TransformSettings
    trained: bool
    varies: bool = False

    @property
    def exits(self) -> bool:
        """Whether images can exit early."""
        return len(self.stages) > 1


@dataclass(frozen=True)
class Place:
    """Where and in which precision contenders run.

    Attributes:
        device: PyTorch's.
        name: the maker's name of it.
        dtype: by the name of the settings.
        batch_size: images a batch.
    """

    device: torch.device
    name: str
    dtype: str
    batch_size: int


def enter(name: str, settings: BenchSettings) -> Entrant:
    """Build one network and count it.

    Raises:
        NetworkError: it cannot be built, or its checkpoint does not fit.
        PolicyError: its policy has another number of thresholds.
    """
    torch.manual_seed(settings.seed)
    checkpoint = settings.checkpoints.get(name)
    network = build(name, checkpoint=checkpoint)
    rows = count_stages(name, network)
    stages = tuple(row.stage for row in rows)
    if len(stages) > 1 and name in settings.policies:
        settings.policies[name].for_stages(stages)
    transform = TransformSettings(**evaluation_settings(network))
    macs, varies = tuple(row.macs for row in rows), any(row.varies for row in rows)
    return Entrant(name, network, stages, macs, transform, checkpoint is not None, varies)


def count_on(entrant: Entrant, photos: Photos) -> Entrant:
    """The entrant with its MACs on the photos, where they depend on the image: the mean over at most so many."""
    if not entrant.varies:
        return entrant
    some = photos.pixels[torch.linspace(0, len(photos) - 1, min(len(photos), PHOTOS_COUNTED)).round().long()]
    images = normalise(some, entrant.transform, dtype=torch.float32, device=torch.device("cpu"))
    return replace(entrant, stage_macs=tuple(row.macs for row in count_stages(entrant.name, entrant.network, images)))


def load(
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


def make_contenders(
    entrants: Sequence[Entrant],
    images: dict[TransformSettings, Tensor],
    place: Place,
    settings: BenchSettings,
    progress: Progress,
) -> list[tuple[Entrant, Contender]]:
    """Every entrant at every exit rate asked for, warmed up.

    Args:
        entrants: built.
        images: normalised, in the place's precision and on its device, for each transform.
        place: where they run.
        settings: of the benchmark.
        progress: called with (done, total, what).
    """
    made = []
    for number, entrant in enumerate(entrants):
        progress(number, len(entrants), f"networks made ready for batch {place.batch_size} in {place.dtype}")
        pictures = images[entrant.transform]
        runner, schedule = _make_runner(entrant, pictures, place, settings, progress)
        for rate, policy in _policies(entrant, runner, pictures, place.batch_size, settings):
            made.append((entrant, Contender(entrant.name, runner, pictures, policy, schedule, rate)))
    return made


def photo_order(contenders: Sequence[tuple[Entrant, Contender]], order: Order, batch_size: int) -> Tensor:
    """Indices of the photos that batches are drawn from: all, or the half that is easier or harder to be sure of.

    Raises:
        MeasureError: no network has an early exit, whose confidence they could be told apart by.
    """
    first = contenders[0][1]
    if order == "shuffled":
        return torch.arange(len(first.images))
    judge = next((contender for entrant, contender in contenders if entrant.exits), None)
    if judge is None:
        raise MeasureError(
            f"photos cannot be {order} without a network that exits early", "Add one, or use --order shuffled."
        )
    confidences = judge.runner.criterion_values(judge.images, batch_size, Criterion.CONFIDENCE)[0]
    ranked = confidences.argsort(descending=True)
    half = max(1, len(ranked) // 2)
    return {"sorted": ranked, "easy": ranked[:half], "hard": ranked[-half:]}[order]


def _make_runner(
    entrant: Entrant, images: Tensor, place: Place, settings: BenchSettings, progress: Progress
) -> tuple[Runner, Schedule]:
    how = Execution(compiled=settings.compiled, capture=cuda_capture if settings.graphs else None)
    when = Schedule(settings.schedule, settings.later_batch, settings.patience)
    dtype = choose_dtype(place.dtype, place.device)
    if settings.autotuned:
        cache, key = TuningCache(), _tuning_key(entrant, place, settings)
        tuning = cache.find(key)
        if tuning is None:
            work = _workload(entrant, images, place, settings, how, when)
            tuning = tune(work, lambda what: progress(0, 1, f"tunings of {entrant.name}: {what}"))
            cache.keep(key, tuning)
        how, when = tuning.execution(how), tuning.schedule(when)
    runner = Runner(entrant.network, place.device, dtype, how)
    runner.warm_up(runner.place(images[next(photo_stream(len(images), place.batch_size, settings.seed))]))
    return runner, when


def _workload(
    entrant: Entrant, images: Tensor, place: Place, settings: BenchSettings, how: Execution, when: Schedule
) -> Workload:
    """A round of batches under the first of the policies, to be run in other ways."""
    dtype = choose_dtype(place.dtype, place.device)
    stream = photo_stream(len(images), place.batch_size, settings.seed)
    # Nothing queues for a network of one stage, whose rounds need not fill a queue.
    rounds = batches_per_round(place.batch_size, when if entrant.exits else None)
    batches = [images[next(stream)] for _ in range(rounds)]
    plain = Runner(entrant.network, place.device, dtype)
    _, policy = _policies(entrant, plain, images, place.batch_size, settings)[0]
    return Workload(entrant.network, place.device, dtype, batches, policy, when, how)


def _tuning_key(entrant: Entrant, place: Place, settings: BenchSettings) -> str:
    """All that the fastest way depends on; the exit rate too, as it sets the share of the stages."""
    given = settings.policies.get(entrant.name)
    exits = f"exits {settings.exit_rates[0]:g} by {_criterion(entrant, settings)}" if given is None else str(given)
    parts = (
        place.name,
        f"{settings.threads or torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        entrant.name,
        *(f"{name} {sha256[:12]}" for name, sha256 in sorted(settings.imports.items())),
        place.dtype,
        f"batch {place.batch_size}",
        f"{settings.schedule}{'' if settings.later_batch is None else f' by {settings.later_batch}'}",
        exits if entrant.exits else "no exits",
        "graphs" if settings.graphs else "no graphs",
    )
    return ", ".join(parts)


def _policies(
    entrant: Entrant, runner: Runner, images: Tensor, batch_size: int, settings: BenchSettings
) -> list[tuple[float | None, ExitPolicy]]:
    """Pairs of an exit rate and its policy: the one given or calibrated, or those that let the asked shares exit."""
    if not entrant.exits:
        return [(None, ExitPolicy.never(1))]
    given = settings.policies.get(entrant.name)
    if given is not None:
        return [(None, given.for_stages(entrant.stages))]
    criterion = _criterion(entrant, settings)
    values = runner.criterion_values(images, batch_size, criterion)
    return [
        (rate, ExitPolicy.at(exit_threshold(values, rate, criterion), criterion=criterion).for_stages(entrant.stages))
        for rate in settings.exit_rates
    ]


def _criterion(entrant: Entrant, settings: BenchSettings) -> Criterion:
    return settings.criterion or default_criterion(entrant.name)


def exit_threshold(values: Tensor, rate: float, criterion: Criterion) -> float:
    """The one threshold, the same after every stage, at which a share of the images stops before the last stage.

    Args:
        values: (S-1, N) float32 values of the criterion after every stage but the last.
        rate: the share, 0 to 1; to the nearest image.
        criterion: what the values are of.
    """
    # An image stops somewhere if it does where it is surest.
    surest = values.amin(dim=0) if criterion.exits_below else values.amax(dim=0)
    place = round(rate * len(surest))
    if place == 0:
        return criterion.no_exit
    last = surest.sort(descending=not criterion.exits_below).values[place - 1]
    # Strictly below: the next number above it.
    return float(torch.nextafter(last, torch.tensor(torch.inf)) if criterion.exits_below else last)


def pictures_for(
    photos: dict[TransformSettings, Photos], dtype: torch.dtype, device: torch.device
) -> dict[TransformSettings, Tensor]:
    """The photos normalised, on the device."""
    return {
        transform: normalise(loaded.pixels, transform, dtype=dtype, device=device)
        for transform, loaded in photos.items()
    }
