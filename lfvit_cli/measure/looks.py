"""What a network saw in a photo and decided: every stage's answers, where it looked, what it spent."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfvit_cli.measure.framing import Frame


@dataclass(frozen=True)
class Answer:
    """A class and its softmax probability."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class StageLook:
    """What one stage answers.

    Attributes:
        name: of the stage.
        top: the most probable classes, at most five, the best first.
        macs: MACs that the stage adds.
        needed: False where an earlier answer stood, so that the early exit never runs it.
    """

    name: str
    top: tuple[Answer, ...]
    macs: int
    needed: bool

    @property
    def best(self) -> Answer:
        """The stage's answer."""
        return self.top[0]


@dataclass(frozen=True, eq=False)
class RegionLook:
    """Where LF-ViT's location stage points, and what its focus stage takes.

    Attributes:
        attention: (s, s) global class attention G on the location grid.
        window: index of the chosen region among all, row-major.
        row: of the region's upper left cell.
        column: of the region's upper left cell.
        size: m, cells a side of the region.
        kept_cells: (k,) cells refined into 2 x 2 fine tokens, most attended first.
        coarse_cells: (s*s-k,) cells kept as one coarse token.
        fine_tokens: (4k,) ascending indices on the 2s x 2s grid.
    """

    attention: NDArray[np.float32]
    window: int
    row: int
    column: int
    size: int
    kept_cells: NDArray[np.int64]
    coarse_cells: NDArray[np.int64]
    fine_tokens: NDArray[np.int64]

    @property
    def grid(self) -> int:
        """Cells a side of the location grid, s."""
        return len(self.attention)


@dataclass(frozen=True, eq=False)
class PruningLook:
    """What one pruning of a token-pruning network leaves.

    Attributes:
        grid: patches a side.
        kept: (n,) ascending indices of the patches, row-major.
    """

    grid: int
    kept: NDArray[np.int64]


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
        threshold: confidence from which a stage's answer stands; None for a network of one stage.
        stages: all of them, also those that the early exit never runs.
        answered: index of the stage whose answer stands.
        region: for LF-ViT.
        prunings: for token-pruning networks, in order.
    """

    image: Path
    model: str
    checkpoint: str | None
    photo: NDArray[np.uint8]
    frame: Frame
    pixels: NDArray[np.uint8]
    label: int | None
    label_name: str | None
    threshold: float | None
    stages: tuple[StageLook, ...]
    answered: int
    region: RegionLook | None = None
    prunings: tuple[PruningLook, ...] = ()

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
        """Whether the first stage had it right and a later answer spoiled it."""
        return self.right is False and self.stages[0].best.index == self.label
