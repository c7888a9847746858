"""From timings to the rows of a benchmark."""

from dataclasses import dataclass, field

import numpy as np
import torch

from lfvit_cli.bench.entrants import Entrant, Place
from lfvit_cli.bench.record import BenchRow, BenchSettings, Ceiling, Percentiles, RawTimings
from lfvit_cli.bench.statistics import estimate
from lfvit_cli.bench.timing import Contender, Timings
from lfvit_cli.cost import expected_macs
from lfvit_cli.images.loading import Photos
from lfvit_cli.images.transforms import TransformSettings
from lfvit_cli.networks.build import count_classes
from lfvit_cli.runtime.devices import peak_memory

IDLE = "idle"


@dataclass(frozen=True)
class Group:
    """All contenders at one precision and batch size, timed together.

    Attributes:
        place: where.
        entrants: one for each contender.
        contenders: in the order of the rows.
        timings: one for each contender.
        ceiling: of the device in that precision.
        end_to_end: images/s of each contender's rounds from files.
    """

    place: Place
    entrants: list[Entrant]
    contenders: list[Contender]
    timings: list[Timings]
    ceiling: Ceiling
    end_to_end: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.end_to_end.extend([] for _ in self.contenders)

    def __len__(self) -> int:
        return len(self.contenders)

    def macs(self, index: int) -> float:
        """MACs per image, by the stages that answered in the timed rounds."""
        return expected_macs(self.entrants[index].stage_macs, self.timings[index].answered_in_all)

    def kept_promises(self, index: int, reference: int) -> list[float]:
        """Each round's time ratio to the reference over the MACs ratio that this very round's exits promise.

        Round against round, since the mixture of a round swings the time of a network with exits: a median of bare
        time ratios would flatter it.
        """
        ours, theirs = self.timings[index], self.timings[reference]
        our_macs, their_macs = self.entrants[index].stage_macs, self.entrants[reference].stage_macs
        rounds = zip(ours.rounds, theirs.rounds, ours.answered_by_round, theirs.answered_by_round, strict=True)
        return [
            (their_seconds / seconds) * (expected_macs(our_macs, answered) / expected_macs(their_macs, their_answered))
            for seconds, their_seconds, answered, their_answered in rounds
        ]


def make_row(group: Group, index: int, photos: dict[TransformSettings, Photos], settings: BenchSettings) -> BenchRow:
    """The row of one contender of a group."""
    entrant, contender, timings = group.entrants[index], group.contenders[index], group.timings[index]
    reference = next(place for place, other in enumerate(group.entrants) if other.name == settings.reference)
    runner, batch_size, count = contender.runner, group.place.batch_size, timings.images_per_round
    answered = timings.answered_in_all
    promised = group.macs(reference) / group.macs(index)
    kept = estimate(group.kept_promises(index, reference))
    speed = estimate([count / seconds for seconds in timings.rounds])
    batch = runner.place(contender.images[:batch_size])
    top1 = _top1(entrant, contender, photos[entrant.transform], batch_size)
    known = settings.known_top1.get(entrant.name) if top1 is None else None
    return BenchRow(
        model=entrant.name,
        batch_size=batch_size,
        dtype=group.place.dtype,
        device=str(runner.device),
        stages=entrant.stages,
        stage_macs=entrant.stage_macs,
        policy=contender.policy if entrant.exits else None,
        asked_rate=contender.asked_rate,
        answered=tuple(answered),
        exit_rate=sum(answered[:-1]) / sum(answered),
        expected_macs=group.macs(index),
        images_per_second=speed,
        milliseconds_per_batch=estimate([1000 * seconds * batch_size / count for seconds in timings.rounds]),
        latency=_latency(timings) if batch_size == timings.images == 1 else None,
        phase_milliseconds=_phases(timings),
        end_to_end=estimate(group.end_to_end[index]) if group.end_to_end[index] else None,
        peak_memory_bytes=peak_memory(
            runner.device, lambda: contender.schedule.answer(runner, [batch], contender.policy)
        ),
        utilisation=group.macs(index) * speed.median / group.ceiling.macs_per_second,
        joules=float(np.median(timings.joules)) / count if timings.joules else None,
        schedule=contender.schedule.name,
        later_batch=contender.schedule.later_batch if entrant.exits else None,
        compiled=runner.execution.compiled,
        graphs=runner.execution.capture is not None,
        channels_last=runner.execution.channels_last,
        threads=runner.execution.threads or torch.get_num_threads(),
        limits=runner.limits,
        promised_speedup=promised,
        realised_speedup=promised * kept.median,
        realised_speedup_interval=(promised * kept.low, promised * kept.high),
        realised_over_promised=kept.median,
        trained=entrant.trained,
        top1=known if top1 is None else top1,
        top1_from="this run" if top1 is not None else "predictions" if known is not None else None,
    )


def raw_timings(group: Group, index: int) -> RawTimings:
    """Every timing behind a row."""
    contender, timings = group.contenders[index], group.timings[index]
    return RawTimings(
        model=contender.name,
        batch_size=group.place.batch_size,
        dtype=group.place.dtype,
        asked_rate=contender.asked_rate,
        images=timings.images,
        seconds=timings.seconds,
        answered=timings.answered,
    )


def _latency(timings: Timings) -> Percentiles:
    milliseconds = 1000 * np.concatenate(timings.seconds)
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return Percentiles(mean=float(milliseconds.mean()), p50=p50, p90=p90, p99=p99)


def _phases(timings: Timings) -> dict[str, float]:
    """Milliseconds an image of each phase, and of none; medians over rounds."""
    names = dict.fromkeys(name for phases in timings.phases for name in phases)
    spent = {name: [phases.get(name, 0.0) for phases in timings.phases] for name in names}
    pairs = zip(timings.rounds, timings.phases, strict=True)
    spent[IDLE] = [max(0.0, seconds - sum(phases.values())) for seconds, phases in pairs]
    return {name: 1000 * float(np.median(seconds)) / timings.images_per_round for name, seconds in spent.items()}


def _top1(entrant: Entrant, contender: Contender, photos: Photos, batch_size: int) -> float | None:
    """Share of the photos answered right, outside the timing; None without labels of the network's own classes."""
    classes = photos.listing.class_names
    if not (entrant.trained and photos.listing.labelled and count_classes(entrant.network) == len(classes)):
        return None
    batches = [contender.runner.place(images) for images in contender.images.split(batch_size)]
    outputs = contender.schedule.answer(contender.runner, batches, contender.policy)
    answers = torch.cat([output.logits.argmax(dim=1).cpu() for output in outputs])
    return int((answers == photos.labels).sum()) / len(photos)
