"""Tests of results/authors.py."""

import csv
import io

from lfvit_cli.evaluation.authors_curve import AuthorsCurve, AuthorsPoint, authors_record
from lfvit_cli.results.authors import authors_csv, authors_report, authors_table

CURVE = AuthorsCurve(
    name="lf_vit",
    file="lf_vit.pth",
    sha256="abc",
    curve=tuple(AuthorsPoint(exit_rate=None, top1=0.7 + row / 1000, macs=1e9 + row * 1e7) for row in range(100)),
    reference_curves={"focus_only": (AuthorsPoint(exit_rate=0, top1=0.81, macs=3e9),)},
)


def test_the_table_shows_a_few_points_with_both_ends() -> None:
    """Of a hundred points eight are shown, the ends among them, then the stages; what is unknown is a dash."""
    table = authors_table(authors_record([CURVE]))
    rows = [[column.text(row) for column in table.columns] for row in table.rows]
    assert len(rows) == 9
    assert rows[0] == ["lf_vit", "early", "-", "70.0", "1.00"]
    assert rows[7] == ["lf_vit", "early", "-", "79.9", "1.99"]
    assert rows[8] == ["lf_vit", "focus only", "0.0", "81.0", "3.00"]


def test_the_files_hold_every_point_and_say_whose_they_are() -> None:
    """The CSV has each point, and the page the hash and the warning."""
    rows = list(csv.DictReader(io.StringIO(authors_csv([CURVE]))))
    assert [float(row["top1"]) for row in rows] == [point.top1 for point in CURVE.curve]
    page = authors_report(authors_record([CURVE]))
    assert "| lf_vit.pth | abc" in page
    assert "lf_vit: its authors' own curve, not measured here" in page


def test_reported_thresholds_are_shown() -> None:
    """A curve with thresholds has a column for them, in the table and in the CSV."""
    points = tuple(AuthorsPoint(threshold=value, exit_rate=0.5, top1=0.8, macs=2e9) for value in (5.0, 0.25))
    curve = CURVE.model_copy(update={"curve": points, "reference_curves": {}})
    table = authors_table(authors_record([curve]))
    assert [[column.text(row) for column in table.columns][2] for row in table.rows] == ["5", "0.25"]
    assert [row["threshold"] for row in csv.DictReader(io.StringIO(authors_csv([curve])))] == ["5.0", "0.25"]
