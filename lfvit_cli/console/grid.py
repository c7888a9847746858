"""A table as a grid in a terminal, or row by row where the terminal is too narrow for it."""

import sys
import textwrap

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lfvit_cli.results.tables import Column, Table

GAP = 2  # one of them is the box's own


def show_grid(table: Table) -> None:
    """Print the table on standard output: nothing is shortened, and no cell wraps.

    Where the grid is wider than the terminal, each row becomes a block of lines.
    """
    cells = [[column.text(row) for row in table.rows] for column in table.columns]
    headings = [_narrow(column, texts) for column, texts in zip(table.columns, cells, strict=True)]
    width = sum(
        GAP + max(map(cell_len, [*heading.split("\n"), *texts])) for heading, texts in zip(headings, cells, strict=True)
    )
    console = Console(highlight=False)
    if table.title:
        console.print(Text(table.title, style="bold"), soft_wrap=True)
    if not sys.stdout.isatty():
        console.width = max(console.width, width)
    if width <= console.width:
        console.print(_grid(table, headings, cells))
    else:
        _print_blocks(console, table)


def _narrow(column: Column, texts: list[str]) -> str:
    """Return a heading in lines no longer than the column's cells, words kept whole."""
    words = column.heading.split()
    return textwrap.fill(column.heading, max(map(len, [*words, *texts])), break_long_words=False)


def _grid(table: Table, headings: list[str], cells: list[list[str]]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False, header_style="bold")
    for column, heading in zip(table.columns, headings, strict=True):
        grid.add_column(Text(heading), justify=column.justify, no_wrap=True, vertical="bottom")
    for row in zip(*cells, strict=True):
        grid.add_row(*map(Text, row))
    return grid


def _print_blocks(console: Console, table: Table) -> None:
    label_width = max(len(column.heading) for column in table.columns)
    for row in table.rows:
        console.print()
        for column in table.columns:
            console.print(Text(f"{column.heading:<{label_width}}  {column.text(row)}"), soft_wrap=True)
