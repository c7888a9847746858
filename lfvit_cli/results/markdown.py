"""A table as Markdown that reads well as plain text too."""

from lfvit_cli.results.tables import Table


def as_markdown(table: Table) -> str:
    """Return the columns as a Markdown table, formatted, padded, and with ``|`` escaped."""
    headings = [_cell(column.heading) for column in table.columns]
    body = [[_cell(column.text(row)) for column in table.columns] for row in table.rows]
    widths = [max(3, *map(len, cells)) for cells in zip(headings, *body, strict=True)]
    rule = [
        "-" * (width - 1) + ":" if column.justify == "right" else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    return "".join(_line(cells, table, widths) for cells in (headings, rule, *body))


def _line(cells: list[str], table: Table, widths: list[int]) -> str:
    padded = (
        cell.rjust(width) if column.justify == "right" else cell.ljust(width)
        for cell, column, width in zip(cells, table.columns, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
