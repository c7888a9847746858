"""A table on standard output: for people to read, or for programs to parse."""

import sys
from typing import Literal

from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Table, as_csv, as_json

Format = Literal["table", "json", "csv", "markdown"]


def show_table(table: Table, form: Format = "table") -> None:
    """Print a table.

    Args:
        table: What to show.
        form: ``table`` for people; ``json`` (a list of objects with raw values), ``csv`` (raw values) and
            ``markdown`` are never wrapped or shortened.
    """
    match form:
        case "json":
            show_text(as_json(table))
        case "csv":
            show_text(as_csv(table))
        case "markdown":
            show_text(as_markdown(table))
        case "table":
            # Rich is imported here because every --help must answer at once.
            from lfvit_cli.console.grid import show_grid

            show_grid(table)


def show_text(text: str) -> None:
    """Print a text as it is, closed by a line end: a record's JSON, say."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
