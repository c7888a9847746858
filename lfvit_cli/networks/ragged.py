"""Batches whose images have different numbers of tokens: how those lie in memory, and how they become fewer."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a batch lie.

    While all images have equally many, tokens lie as (B, n, ...). Otherwise those of all images lie one after another,
    as (T, ...): what works token by token then does no more than is needed, and attention alone needs rows (B, m, ...)
    as long as the longest. Where shapes must not depend on what the images show, tokens stay where they are, as
    (B, n, ...), and a mask says which are left. An image alone always is of the first kind.

    Attributes:
        present: (B, m) which places of a row hold a token; None for all.
        slots: (T,) place in the flattened rows of each token; None where tokens lie in rows already.
        sources: (B, m) token of each place of a row, or where there is none the last of the image; None likewise.
    """

    present: Tensor | None = None
    slots: Tensor | None = None
    sources: Tensor | None = None

    def rows(self, values: Tensor) -> Tensor:
        """What lies as the tokens do, as rows (B, m, ...); places without a token repeat the last of the row."""
        if self.sources is None:
            return values
        return _selected(values, self.sources)

    def flat(self, rows: Tensor) -> Tensor:
        """Rows (B, m, ...) as the tokens lie."""
        return rows if self.slots is None else rows.flatten(0, 1).index_select(0, self.slots)

    def first(self, values: Tensor) -> Tensor:
        """Of what lies as the tokens do, the first of each image, (B, ...); anything for an image without tokens."""
        return values[:, 0] if self.sources is None else values[self.sources[:, 0]]

    def counts(self, values: Tensor) -> Tensor:
        """(B,) tokens of each image, given anything that lies as they do."""
        if self.present is not None:
            return self.present.sum(dim=1)
        return torch.full((values.shape[0],), values.shape[1], device=values.device)

    def mask(self) -> Tensor | None:
        """What attention is to leave out, as (B, 1, 1, m): False there; None where it sees all.

        An image without tokens sees all places, so that numbers stay finite.
        """
        if self.present is None:
            return None
        return (self.present | ~self.present.any(dim=1, keepdim=True))[:, None, None, :]

    def only(self, keep: Tensor, *, drop: bool) -> tuple["Layout", Tensor | None]:
        """The layout of some tokens alone.

        Args:
            keep: booleans that lie as the tokens do.
            drop: the others are to go; else they stay and are masked, as they do wherever shapes are fixed.

        Returns:
            The new layout, and what :meth:`take` is to be given to have the tokens in it.
        """
        if self.slots is None and self.present is not None:
            keep = keep & self.present
        if not drop or torch.compiler.is_exporting():
            return Layout(present=keep), None
        dropped: tuple[Layout, Tensor | None] = self._dropped(keep)
        return dropped

    def take(self, values: Tensor, chosen: Tensor | None) -> Tensor:
        """What lies as the tokens do, for the tokens alone that :meth:`only` has chosen."""
        if chosen is None:
            return values
        together = values.flatten(0, 1) if self.slots is None else values
        return _selected(together, chosen)

    # Its shapes depend on what is in the tensors, which a compiler cannot follow.
    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch's
    def _dropped(self, keep: Tensor) -> tuple["Layout", Tensor | None]:
        if keep.is_cuda and torch.cuda.is_current_stream_capturing():
            return Layout(present=self.rows(keep)), None
        rows = self.rows(keep) if self.present is None else self.rows(keep) & self.present
        counts = rows.sum(dim=1)
        longest = int(counts.max())
        chosen = keep.flatten().nonzero().squeeze(1)
        batch, total = counts.shape[0], chosen.shape[0]
        if total == batch * longest:
            return Layout(), chosen.view(batch, longest)
        places = torch.arange(longest, device=keep.device)
        present = places < counts.unsqueeze(1)
        slots = present.flatten().nonzero().squeeze(1)
        first, last = (counts.cumsum(0) - counts).unsqueeze(1), (counts.cumsum(0) - 1).unsqueeze(1)
        return Layout(present, slots, torch.minimum(first + places, last).clamp(min=0)), chosen


def _selected(values: Tensor, index: Tensor) -> Tensor:
    """The same as ``values[index]``, several times as fast on a CPU."""
    selected: Tensor = values.index_select(0, index.flatten()).unflatten(0, index.shape)
    return selected
