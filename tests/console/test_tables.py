"""Tables that people can read and programs can parse."""

import csv
import io
import json
from pathlib import Path

import pytest
from running import in_terminal

from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.results.formats import count, fixed, scaled
from lfvit_cli.results.tables import Column, Table

MODELS = ("lf_deit_small:location_grid=9,region_size=8", "evo_deit_small_patch16_224")
TABLE = Table(
    columns=(
        Column("model", "model"),
        Column("macs", "MACs", "G", scaled(1e9, 3), "right"),
        Column("params", "parameters", format=count, justify="right"),
        Column("speed", "speed", "images/s", fixed(1), "right"),
    ),
    rows=[
        {"model": model, "macs": 4_608_338_304, "params": 22_050_664, "speed": None, "note": "x" * 200}
        for model in MODELS
    ],
    title="Cost",
)
SHOW = "from test_tables import TABLE, show_table; show_table(TABLE)"


def shown(capsys: pytest.CaptureFixture[str], form: Format) -> str:
    """Return what a format prints, and see that it keeps off standard error."""
    show_table(TABLE, form)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_json_parses_back_to_the_raw_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON holds every value of every row, unformatted, shown as a column or not."""
    assert json.loads(shown(capsys, "json")) == TABLE.rows


def test_csv_parses_back_to_the_raw_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV holds every value of every row, one line a row however long."""
    rows = list(csv.DictReader(io.StringIO(shown(capsys, "csv"))))
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in TABLE.rows]


def test_markdown_is_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown holds the columns as people read them, unwrapped."""
    lines = shown(capsys, "markdown").splitlines()
    assert len(lines) == 2 + len(MODELS)
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [MODELS[0], "4.608", "22,050,664", "-"]


def test_a_piped_grid_is_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal nothing is wrapped or shortened, so that grep finds whole rows."""
    lines = shown(capsys, "table").splitlines()
    assert lines[0] == "Cost"
    for model in MODELS:
        row = next(line for line in lines if line.startswith(model))
        assert row.split() == [model, "4.608", "22,050,664", "-"]


@pytest.mark.parametrize("width", [200, 80, 40])
def test_a_grid_in_a_terminal_loses_nothing(width: int, tmp_path: Path) -> None:
    """At any width every value stays whole, and at 80 columns a table of usual width is a grid."""
    here = Path(__file__).parent
    program = f"import sys; sys.path += [{str(here)!r}, {str(here.parent)!r}]; {SHOW}"
    text, errors = in_terminal(program, "stdout", width, tmp_path)
    assert errors == ""
    assert text.count("22,050,664") == text.count("4.608") == len(MODELS)
    assert all(model in text for model in MODELS)
    assert "(images/s)" in text
    assert max(map(len, text.splitlines())) <= max(width, 80)


def test_text_ends_with_one_line_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A record's JSON is printed as it is and closed."""
    show_text("{}")
    show_text("{}\n")
    assert capsys.readouterr().out == "{}\n{}\n"
