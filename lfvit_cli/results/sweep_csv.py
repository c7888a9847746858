"""The curves and the classes of a sweep as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfvit_cli.analysis.sweep import Sweep


def curve_csv(sweeps: "Sequence[Sweep]") -> str:
    """Return every point of every curve as CSV; several thresholds stand in one cell, with blanks between."""
    fields = list(type(sweeps[0].curve[0]).model_fields)
    values = attrgetter(*fields)
    column = fields.index("threshold")
    rows = []
    for sweep in sweeps:
        points = [(sweep.name, *values(point)) for point in sweep.curve]
        if len(sweep.source.stages) > 2:
            points = [(*row[: column + 1], " ".join(map(str, row[column + 1])), *row[column + 2 :]) for row in points]
        rows += points
    return _csv(["model", *fields], rows)


def classes_csv(sweeps: "Sequence[Sweep]") -> str:
    """Return every class of every sweep as CSV."""
    fields = list(type(sweeps[0].classes[0]).model_fields)
    values = attrgetter(*fields)
    return _csv(["model", *fields], ((sweep.name, *values(each)) for sweep in sweeps for each in sweep.classes))


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
