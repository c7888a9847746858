"""The files of a sweep: data, figures and the page, written together."""

import re
from collections.abc import Sequence
from pathlib import Path

from lfvit_cli.analysis.sweep import Sweep, SweepRecord, policy_of
from lfvit_cli.catalogue import shipped
from lfvit_cli.evaluation.authors_curve import AuthorsCurveRecord
from lfvit_cli.figures.curve import PublishedPoint, draw_curves
from lfvit_cli.figures.reliability import draw_reliability
from lfvit_cli.figures.style import render
from lfvit_cli.files import save_files
from lfvit_cli.results.authors import authors_csv, authors_report
from lfvit_cli.results.sweep import report
from lfvit_cli.results.sweep_csv import classes_csv, curve_csv


def save_sweep(folder: Path, record: SweepRecord, document: str, published: bool = False) -> None:
    """Write all that a sweep tells into an existing folder.

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
        **_policies(sweeps),
    }
    if record.authors:
        files["authors.csv"] = authors_csv(record.authors)
    save_files(folder, files)


def _policies(sweeps: Sequence[Sweep]) -> dict[str, str]:
    """The policy of every sweep's first target, and the first sweep's as ``policy.json`` too."""
    files = {}
    for each in sweeps:
        if each.operating_points:
            name = re.sub(r"[^\w.]+", "-", each.name, flags=re.ASCII).strip("-.")[:100] or "network"
            files[f"policies/{name}.json"] = policy_of(each, each.operating_points[0]).text()
    if sweeps[0].operating_points:
        files["policy.json"] = policy_of(sweeps[0], sweeps[0].operating_points[0]).text()
    return files


def save_authors(folder: Path, record: AuthorsCurveRecord, document: str, published: bool = False) -> None:
    """Write the curves that checkpoints carry into an existing folder; arguments and errors as of ``save_sweep``."""
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
    """Take from the catalogue the results whose MACs are known."""
    return [
        PublishedPoint(entry.spec.replace("_patch16_224", ""), result.gmacs * 1e9, result.top1 / 100)
        for entry in shipped().entries
        for result in entry.published
        if result.gmacs is not None
    ]
