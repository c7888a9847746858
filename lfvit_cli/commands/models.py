"""`lfvit models`: the catalogue."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lfvit_cli.console.options import FormatOption, ImportOption
from lfvit_cli.console.tables import show_table
from lfvit_cli.results.formats import fixed, scaled
from lfvit_cli.results.tables import Column, Table

if TYPE_CHECKING:
    from lfvit_cli.catalogue import Entry


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="A filter such as 'lf_*' or 'vit_small*'.")] = "*",
    imports: ImportOption = None,
    form: FormatOption = "table",
) -> None:
    """List the networks by family: stages, parameters, and the accuracy and cost their authors publish.

    Any of these names can be given to the other commands, with keywords: lf_deit_small:location_grid=9. So can the
    name of any timm classifier; a PATTERN lists those that it matches as well.
    """
    from lfvit_cli.catalogue import find, is_current
    from lfvit_cli.errors import UnknownModelError

    entries = find(pattern, None if is_current() else _names_of_installed_timm()) + (
        _imported(imports, pattern) if imports else []
    )
    if not entries:
        raise UnknownModelError(f"no model matches {pattern!r}", "`lfvit models` lists the catalogue.")
    families = list(dict.fromkeys(entry.family for entry in entries))
    entries.sort(key=lambda entry: families.index(entry.family))
    rows = [_row(entry) for entry in entries]
    optional = ("params", "published_top1", "published_gmacs", "source", "note")
    empty = {name for name in optional if all(row[name] in (None, "") for row in rows)}
    columns = COLUMNS if form == "json" else [column for column in COLUMNS if column.name not in empty]
    show_table(Table(columns, rows), form)


def _names_of_installed_timm() -> tuple[str, ...]:
    from lfvit_cli.networks.catalogue import timm_classifiers

    return timm_classifiers()


def _imported(sources: list[str], pattern: str) -> "list[Entry]":
    """What the catalogue would say of methods from outside."""
    from fnmatch import fnmatchcase

    from lfvit_cli.networks.catalogue import imported_entries
    from lfvit_cli.networks.plugins import load_methods

    load_methods(sources)
    return [entry for entry in imported_entries() if fnmatchcase(entry.spec, pattern)]


def _row(entry: "Entry") -> dict[str, Any]:
    published = entry.published[0] if entry.published else None
    return {
        "name": entry.spec,
        "family": entry.family,
        "stages": list(entry.stages),
        "params": entry.params,
        "published_top1": published and published.top1,
        "published_gmacs": published and published.gmacs,
        "source": published and published.source,
        "note": entry.note,
    }


COLUMNS = (
    Column("family", "family"),
    Column("name", "model"),
    Column("stages", "stages", format=lambda stages: ", ".join(stages) or "-"),
    Column("params", "parameters", "M", scaled(1e6, 1), "right"),
    Column("published_top1", "published top-1", "%", fixed(1), "right"),
    Column("published_gmacs", "published GMACs", "", fixed(2), "right"),
    Column("source", "source"),
    Column("note", "note", format=lambda note: note or "-"),
)
