"""What a network saw in a photo and decided; and the same as a record, which is what a program reads of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.looks.photos import Frame
from lfvit_cli.policies import ExitPolicy
from lfvit_cli.records import Facts


@dataclass(frozen=True)
class Answer:
    """A class and its softmax probability."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class HeatLook:
    """How strongly each cell of a grid was attended to: (h, w) values of any scale, and what they show."""

    values: NDArray[np.floating]
    name: str = "attention"


@dataclass(frozen=True)
class BoxLook:
    """A rectangle of cells on a grid of (h, w) cells."""

    row: int
    column: int
    height: int
    width: int
    grid: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TokensLook:
    """Which token each patch belongs to: (h, w) owners, -1 for a patch that was dropped; and after which step."""

    owner: NDArray[np.int64]
    name: str

    @property
    def kept(self) -> int:
        """Patches that belong to some token."""
        return int((self.owner >= 0).sum())

    @property
    def tokens(self) -> int:
        """Tokens that patches belong to."""
        return len(np.unique(self.owner[self.owner >= 0]))

    @property
    def shared(self) -> NDArray[np.bool_]:
        """(h, w) whether a patch shares its token with others."""
        _, places, sizes = np.unique(self.owner, return_inverse=True, return_counts=True)
        return (sizes[places.reshape(self.owner.shape)] > 1) & (self.owner >= 0)


TraceLook = HeatLook | BoxLook | TokensLook


@dataclass(frozen=True, eq=False)
class StageLook:
    """What one stage answers.

    Attributes:
        name: of the stage.
        top: the most probable classes, at most five, the best first.
        macs: MACs that the stage adds.
        needed: False where an earlier answer stood, so that the early exit never runs it.
        value: of the exit criterion; None for the last stage, which decides nothing.
        traces: what the stage shows of itself.
    """

    name: str
    top: tuple[Answer, ...]
    macs: int
    needed: bool
    value: float | None = None
    traces: tuple[TraceLook, ...] = ()

    @property
    def best(self) -> Answer:
        """The stage's answer."""
        return self.top[0]

    @property
    def heats(self) -> list[HeatLook]:
        """Its traces of this kind, in order."""
        return [trace for trace in self.traces if isinstance(trace, HeatLook)]

    @property
    def boxes(self) -> list[BoxLook]:
        """Its traces of this kind, in order."""
        return [trace for trace in self.traces if isinstance(trace, BoxLook)]

    @property
    def tokens(self) -> list[TokensLook]:
        """Its traces of this kind, in order."""
        return [trace for trace in self.traces if isinstance(trace, TokensLook)]


@dataclass(frozen=True, eq=False)
class Look:
    """What one network saw in one photo, and decided.

    Attributes:
        image: the photo's file.
        model: the network, as named.
        checkpoint: where its weights come from; None where they are random.
        photo: (h, w, 3) uint8, the whole photo, reduced for display.
        frame: what the network sees of it, in pixels of ``photo``.
        pixels: (S, S, 3) uint8, what the network sees.
        label: the right class, None where unknown.
        label_name: what it is called.
        policy: when an answer stands, with a threshold for every stage but the last; None for one stage.
        stages: all of them, also those that the early exit never runs.
        answered: index of the stage whose answer stands.
        knows: which classes the network knows, in words, where a reader might expect more; else None.
    """

    image: Path
    model: str
    checkpoint: str | None
    photo: NDArray[np.uint8]
    frame: Frame
    pixels: NDArray[np.uint8]
    label: int | None
    label_name: str | None
    policy: ExitPolicy | None
    stages: tuple[StageLook, ...]
    answered: int
    knows: str | None = None

    @property
    def answer(self) -> Answer:
        """The answer that stands."""
        return self.stages[self.answered].best

    @property
    def exited(self) -> bool:
        """Whether an earlier stage than the last answered."""
        return self.answered < len(self.stages) - 1

    @property
    def macs(self) -> int:
        """MACs spent on this photo."""
        return sum(stage.macs for stage in self.stages if stage.needed)

    @property
    def most_macs(self) -> int:
        """MACs of all stages."""
        return sum(stage.macs for stage in self.stages)

    @property
    def right(self) -> bool | None:
        """Whether the answer is the label; None without one."""
        return None if self.label is None else self.answer.index == self.label

    @property
    def harmed(self) -> bool:
        """Whether an earlier stage had it right, and the answer that stands is wrong."""
        return self.right is False and any(stage.best.index == self.label for stage in self.stages[: self.answered])


class AnswerRecord(Facts):
    """A class and its softmax probability."""

    index: int
    name: str
    probability: float


class TraceRecord(Facts):
    """What a stage showed of itself.

    Attributes:
        kind: ``heat``, ``box`` or ``tokens``.
        name: what it shows, or what had just happened.
        grid: (h, w) cells.
        values: of a heat, row by row, to six digits; None for the others.
        box: row, column, height and width of a box, in cells; None for the others.
        owner: for tokens, the token that each patch belongs to, row by row, -1 where it was dropped.
    """

    kind: Literal["heat", "box", "tokens"]
    name: str = ""
    grid: tuple[int, int]
    values: tuple[float, ...] | None = None
    box: tuple[int, int, int, int] | None = None
    owner: tuple[int, ...] | None = None


class StageRecord(Facts):
    """What one stage answers.

    Attributes:
        prediction: class index.
        confidence: largest softmax probability, 0..1.
        name: of the class.
        macs: MACs that the stage adds.
        needed: False where an earlier answer stood.
        value: of the exit criterion; None for the last stage, which decides nothing.
        top5: the most probable classes, the best first.
        traces: what the stage showed of itself.
    """

    prediction: int
    confidence: float
    name: str
    macs: int
    needed: bool
    value: float | None
    top5: tuple[AnswerRecord, ...]
    traces: tuple[TraceRecord, ...]


class LookRecord(Facts):
    """What one network saw in one photo, and decided.

    Attributes:
        image: the photo's file.
        model: the network, as named.
        trained: False where its weights are random.
        label: the right class, None where unknown.
        exited: whether an earlier stage than the last answered.
        answered_by: the stage whose answer stands.
        policy: when an answer stands; None for a network of one stage.
        macs: MACs spent on this photo.
        most_macs: MACs of all stages.
        knows: which classes the network knows, in words, where a reader might expect more.
        stages: every stage's answer, by its name.
    """

    image: str
    model: str
    trained: bool
    label: int | None
    exited: bool
    answered_by: str
    policy: ExitPolicy | None
    macs: int
    most_macs: int
    knows: str | None
    stages: dict[str, StageRecord]


def look_record(look: Look) -> LookRecord:
    """The record of a look."""
    return LookRecord(
        image=str(look.image),
        model=look.model,
        trained=look.checkpoint is not None,
        label=look.label,
        exited=look.exited,
        answered_by=look.stages[look.answered].name,
        policy=look.policy,
        macs=look.macs,
        most_macs=look.most_macs,
        knows=look.knows,
        stages={stage.name: _stage_record(stage) for stage in look.stages},
    )


def _stage_record(stage: StageLook) -> StageRecord:
    return StageRecord(
        prediction=stage.best.index,
        confidence=stage.best.probability,
        name=stage.best.name,
        macs=stage.macs,
        needed=stage.needed,
        value=stage.value,
        top5=tuple(AnswerRecord(**vars(answer)) for answer in stage.top),
        traces=tuple(map(_trace_record, stage.traces)),
    )


def _trace_record(trace: TraceLook) -> TraceRecord:
    match trace:
        case HeatLook():
            height, width = trace.values.shape
            values = tuple(float(f"{value:.6g}") for value in trace.values.ravel())
            return TraceRecord(kind="heat", name=trace.name, grid=(height, width), values=values)
        case BoxLook():
            return TraceRecord(kind="box", grid=trace.grid, box=(trace.row, trace.column, trace.height, trace.width))
        case TokensLook():
            height, width = trace.owner.shape
            owner = tuple(trace.owner.ravel().tolist())
            return TraceRecord(kind="tokens", name=trace.name, grid=(height, width), owner=owner)
