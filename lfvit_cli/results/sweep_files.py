"""The files of a sweep: data, policies, figures and the page, written together."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

from lfvit_cli.analysis.sweep import Sweep, SweepRecord, policy_of
from lfvit_cli.catalogue import shipped
from lfvit_cli.evaluation.authors_curve import AuthorsCurveRecord
from lfvit_cli.figures.curve import PublishedPoint, draw_curves
from lfvit_cli.figures.reliability import draw_reliability
from lfvit_cli.figures.style import render
from lfvit_cli.files import save_files
from lfvit_cli.results.authors import authors_csv, authors_report
from lfvit_cli.results.sweep import report


def save_sweep(folder: Path, record: SweepRecord, document: str, published: bool = False) -> None:
    """Write everything that a sweep says into an existing folder.

    Args:
        folder: where the files go.
        record: the sweep.
        document: the same as JSON.
        published: whether the figure also shows the catalogue's published results.

    Raises:
        UnwritableOutput: a file cannot be written; none is then half-written.
    """
    sweeps = [record, *record.others]
    curve = draw_curves(sweeps, published=_published() if published else (), authors=record.authors)
    files: dict[str, str | bytes] = {
        "curve.csv": curve_csv(sweeps),
        "curve.json": document,
        "curve.png": render(curve, "png"),
        "curve.svg": render(curve, "svg"),
        "calibration.png": render(draw_reliability(record.name, record.calibration), "png"),
        "classes.csv": classes_csv(sweeps),
        "report.md": report(record),
        **policies(sweeps),
    }
    if record.authors:
        files["authors.csv"] = authors_csv(record.authors)
    save_files(folder, files)


def save_authors(folder: Path, record: AuthorsCurveRecord, document: str, published: bool = False) -> None:
    """Write the curves of authors into an existing folder; arguments and errors are those of ``save_sweep``."""
    curves = [record, *record.others]
    figure = draw_curves([], published=_published() if published else (), authors=curves)
    save_files(
        folder,
        {
            "authors.csv": authors_csv(curves),
            "curve.json": document,
            "curve.png": render(figure, "png"),
            "curve.svg": render(figure, "svg"),
            "report.md": authors_report(record),
        },
    )


def _published() -> list[PublishedPoint]:
    """The results in the catalogue whose MACs are known."""
    return [
        PublishedPoint(entry.spec.replace("_patch16_224", ""), result.gmacs * 1e9, result.top1 / 100)
        for entry in shipped().entries
        for result in entry.published
        if result.gmacs is not None
    ]


def policies(sweeps: Sequence[Sweep]) -> dict[str, str]:
    """The policy of every sweep's first target, by file name; the first sweep's is ``policy.json`` too."""
    files: dict[str, str] = {}
    for each in sweeps:
        if each.operating_points:
            files[_policy_file(each.name, files)] = policy_of(each, each.operating_points[0]).text()
    if sweeps[0].operating_points:
        files["policy.json"] = policy_of(sweeps[0], sweeps[0].operating_points[0]).text()
    return files


def _policy_file(name: str, taken: Iterable[str]) -> str:
    """A name that any file system takes, and that no other has even where upper and lower case are one."""
    safe = re.sub(r"[^\w.]+", "-", name, flags=re.ASCII).strip("-.")[:100] or "network"
    numbered = (f"policies/{safe}{'' if number == 1 else f'-{number}'}.json" for number in count(1))
    return next(file for file in numbered if file.lower() not in {other.lower() for other in taken})


def curve_csv(sweeps: Sequence[Sweep]) -> str:
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


def classes_csv(sweeps: Sequence[Sweep]) -> str:
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
