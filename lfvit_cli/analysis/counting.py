"""How many images each stage answers, at many thresholds at once; an image exits at or above its threshold."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SharedThresholds:
    """Every threshold that all stages share, from the one at which all images exit to none.

    An image is answered by the first stage whose value reaches the threshold. So a stage answers it at the thresholds
    above the highest value before this stage, up to the highest value so far.

    Attributes:
        candidates: (P,) the distinct highest values so far, rising, then infinity.
        bounds: (S+1, N) a stage answers an image from row ``bounds[stage]`` to before row ``bounds[stage + 1]``.
    """

    candidates: NDArray[np.floating]
    bounds: NDArray[np.intp]

    @classmethod
    def of(cls, values: list[NDArray[np.floating]], images: int) -> Self:
        """Prepare the S-1 arrays of values (N,)."""
        highest = np.maximum.accumulate(np.stack(values)) if values else np.empty((0, images))
        distinct = np.unique(highest)
        ends = np.searchsorted(distinct, highest, side="right")
        first, last = np.zeros((1, images), np.intp), np.full((1, images), len(distinct) + 1)
        return cls(np.append(distinct, distinct.dtype.type(np.inf)), np.concatenate((first, ends, last)))

    def thresholds(self) -> NDArray[np.floating]:
        """(P, S-1) thresholds, infinite for no exit."""
        return np.broadcast_to(self.candidates[:, None], (len(self.candidates), len(self.bounds) - 2))

    def answered(self, stage: int, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(P,) images among the chosen (N,) that a stage answers."""
        rows = len(self.candidates)
        begun, ended = (np.bincount(bound[chosen], minlength=rows + 1) for bound in self.bounds[stage : stage + 2])
        return np.cumsum(begun - ended)[:rows]


@dataclass(frozen=True, eq=False)
class ThresholdGrid:
    """Every combination of one threshold a stage, by cumulative histograms.

    Attributes:
        axes: S-1 arrays of thresholds, rising, then infinity.
        levels: S-1 arrays (N,): an image exits at its stage's thresholds before this index.
    """

    axes: list[NDArray[np.floating]]
    levels: list[NDArray[np.intp]]

    @classmethod
    def of(cls, values: list[NDArray[np.floating]], most: int) -> Self:
        """Prepare the S-1 arrays of values (N,), at least one, for at most so many combinations."""
        room = int(most ** (1 / len(values)) + 1e-9) - 1  # a stage, besides no exit
        axes = [_spread_out(np.unique(each), room) for each in values]
        levels = [np.searchsorted(axis, each, side="right") for axis, each in zip(axes, values, strict=True)]
        return cls([np.append(axis, axis.dtype.type(np.inf)) for axis in axes], levels)

    def thresholds(self) -> NDArray[np.floating]:
        """(P, S-1) thresholds, infinite for no exit."""
        return np.stack([grid.ravel() for grid in np.meshgrid(*self.axes, indexing="ij")], axis=1)

    def answered(self, stage: int, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(P,) images among the chosen (N,) that a stage answers: those that reach it, less those that go on."""
        counts = self._reaching(stage, chosen)
        if stage < len(self.axes):
            counts = counts - self._reaching(stage + 1, chosen)
        return np.broadcast_to(counts, [len(axis) for axis in self.axes]).ravel()

    def _reaching(self, stage: int, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Chosen images that no earlier stage answers: every earlier level is at most the threshold's index."""
        shape = [len(axis) for axis in self.axes[:stage]]
        if not shape:
            return np.full([1] * len(self.axes), np.count_nonzero(chosen))
        cells = np.ravel_multi_index([level[chosen] for level in self.levels[:stage]], shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
        for axis in range(stage):
            counts = counts.cumsum(axis=axis)
        return counts.reshape(*shape, *[1] * (len(self.axes) - stage))


def _spread_out(values: NDArray[np.floating], most: int) -> NDArray[np.floating]:
    """At most so many of the rising values, the first and the last among them."""
    if len(values) <= most:
        return values
    kept: NDArray[np.floating] = values[np.linspace(0, len(values) - 1, most).round().astype(int)]
    return kept
