"""Tables as JSON and CSV: raw, whole and read back."""

import csv
import io
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfvit_cli.results.formats import count, fixed, scaled, significant
from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Column, Table, as_csv, as_json

COLUMNS = (Column("model", "model"), Column("value", "value"))
VALUES = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text())


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(min_size=1), VALUES, max_size=4), max_size=4))
def test_json_reads_back(rows: list[dict[str, Any]]) -> None:
    """Any rows come back from JSON as they were."""
    assert json.loads(as_json(Table(COLUMNS, rows))) == rows


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1, max_size=4))
def test_csv_reads_back(values: list[str]) -> None:
    """Any text comes back from CSV as it was: commas, quotes and all."""
    rows = [{"model": "a", "value": value} for value in values]
    assert list(csv.DictReader(io.StringIO(as_csv(Table(COLUMNS, rows))))) == rows


def test_json_has_no_nan() -> None:
    """NaN and infinity, which JSON has no words for, become null."""
    assert json.loads(as_json(Table(COLUMNS, [{"a": math.nan, "b": -math.inf}]))) == [{"a": None, "b": None}]


def test_csv_spreads_nested_values() -> None:
    """A nested value takes a column for each of its parts; rows need not have the same keys."""
    rows: list[dict[str, Any]] = [
        {"model": "a", "speed": {"median": 2.5, "low": 2}},
        {"model": "b", "note": "none"},
    ]
    assert as_csv(Table(COLUMNS, rows)) == "model,speed_median,speed_low,note\na,2.5,2,\nb,,,none\n"


def test_an_empty_table_keeps_its_header() -> None:
    """Without rows CSV and Markdown still say what there would be."""
    empty = Table(COLUMNS, [])
    assert as_csv(empty) == "model,value\n"
    assert as_json(empty) == "[]\n"
    assert as_markdown(empty).splitlines()[0] == "| model | value |"


def test_headings_and_missing_values() -> None:
    """A heading carries its unit; a missing value is a dash, formatted or not."""
    column = Column("macs", "MACs", "G", scaled(1e9, 3))
    assert column.heading == "MACs (G)"
    assert column.text({"macs": 4_608_338_304}) == "4.608"
    assert column.text({"macs": None}) == column.text({}) == "-"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (count(22_050_664), "22,050,664"),
        (fixed(2)(1.005), "1.00"),
        (scaled(0.01, 1)(0.78), "78.0"),
        (significant(3)(1234.5), "1,230"),
        (significant(3)(0.012345), "0.0123"),
        (significant(3)(12.345), "12.3"),
    ],
)
def test_formats(text: str, shown: str) -> None:
    """Each format shows the digits it promises."""
    assert text == shown
