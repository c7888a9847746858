"""Curves of authors as people read them: a table of a few points, the report, and every point as CSV."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lfvit_cli.results.formats import scaled, significant
from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Column, Table, as_csv

if TYPE_CHECKING:
    from lfvit_cli.evaluation.authors_curve import AuthorsCurve, AuthorsCurveRecord, AuthorsPoint

SHOWN = 8
_ADVICE = """\
authors.csv has every point. To choose a threshold on some images and report it on others, evaluate the network's
checkpoint: `lfvit sweep-threshold MODEL --checkpoint FILE`.
"""


def authors_table(record: "AuthorsCurveRecord") -> Table:
    """Return some points of each curve, evenly spread, and what each stage reaches alone."""
    percent = scaled(0.01, 1)
    columns = [
        Column("model", "curve"),
        Column("point", "exits"),
        Column("exit_rate", "exit rate", "%", percent, "right"),
        Column("top1", "top-1", "%", percent, "right"),
        Column("macs", "expected", "GMACs", scaled(1e9, 2), "right"),
    ]
    curves = (record, *record.others)
    if any(point.threshold is not None for curve in curves for point in curve.curve):
        columns.insert(2, Column("threshold", "threshold", "", significant(4), "right"))
    rows = [row for curve in curves for row in _rows(curve)]
    return Table(columns, rows, title="As the authors report it, not measured here")


def authors_csv(curves: "Sequence[AuthorsCurve]") -> str:
    """Return every point of every curve as CSV."""
    return as_csv(Table((), [_row(curve, "early", point) for curve in curves for point in curve.curve]))


def authors_report(record: "AuthorsCurveRecord") -> str:
    """Return the record as a page of Markdown, beside which the figure lies."""
    curves = [record, *record.others]
    sources = [{"file": curve.file, "hash": curve.sha256} for curve in curves]
    parts = [
        f"# Exit curves of the authors: {', '.join(curve.name for curve in curves)}\n",
        "![Accuracy against cost](curve.png)\n",
        *(f"- {warning}.\n" for warning in record.warnings),
        as_markdown(authors_table(record)),
        _ADVICE,
        "## Circumstances\n",
        as_markdown(Table([Column("file", "file"), Column("hash", "SHA-256")], sources)),
    ]
    return "\n".join(parts)


def _rows(curve: "AuthorsCurve") -> list[dict[str, Any]]:
    last = len(curve.curve) - 1
    shown = sorted({round(step * last / (SHOWN - 1)) for step in range(SHOWN)})
    alone = [(name.replace("_", " "), point) for name, (point,) in curve.reference_curves.items()]
    return [_row(curve, *each) for each in [*(("early", curve.curve[index]) for index in shown), *alone]]


def _row(curve: "AuthorsCurve", kind: str, point: "AuthorsPoint") -> dict[str, Any]:
    return {
        "model": curve.name,
        "point": kind,
        "threshold": point.threshold,
        "exit_rate": point.exit_rate,
        "top1": point.top1,
        "macs": point.macs,
    }
