"""A table of results: columns for people, whole rows for programs."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MISSING = "-"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column as people read it.

    Attributes:
        name: Key of its value in a row.
        header: Its name for people.
        unit: Unit of the formatted value, in brackets behind the header.
        format: Text of a value; never called for a missing one.
        justify: Side on which the values align; numbers belong to the right.
    """

    name: str
    header: str
    unit: str = ""
    format: Callable[[Any], str] = str
    justify: Literal["left", "right"] = "left"

    @property
    def heading(self) -> str:
        """Header and unit."""
        return f"{self.header} ({self.unit})" if self.unit else self.header

    def text(self, row: Row) -> str:
        """Return the formatted value of a row, ``-`` where it has none."""
        value = row.get(self.name)
        return MISSING if value is None else self.format(value)


@dataclass(frozen=True)
class Table:
    """Rows of raw values and the columns that people see of them.

    Attributes:
        columns: Shown in the grid and in Markdown, formatted.
        rows: Written whole and raw to JSON and CSV; a row may hold more than the columns show.
        title: A line above the grid.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""


def as_json(table: Table) -> str:
    """Return the rows as a JSON list of objects; NaN and infinities become null."""
    # pydantic_core takes 30 ms to import, which a --help need not wait for.
    from pydantic_core import to_json

    return to_json(list(table.rows), indent=2, inf_nan_mode="null").decode() + "\n"


def as_csv(table: Table) -> str:
    """Return the rows as CSV; a nested value ``{"speed": {"low": 1}}`` goes to column ``speed_low``."""
    rows = [_flat(row) for row in table.rows]
    names = dict.fromkeys(name for row in rows for name in row) or {column.name: None for column in table.columns}
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{inner}": leaf for inner, leaf in _flat(value).items()}
        else:
            flat[name] = value
    return flat
