"""`lfvit models`: the catalogue."""

from typing import Annotated, Any, cast

import typer

from lfvit_cli.console.options import FormatOption
from lfvit_cli.console.tables import show_table
from lfvit_cli.results.formats import fixed, scaled
from lfvit_cli.results.tables import Column, Table


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="A filter such as 'lf_*'.")] = "*",
    form: FormatOption = "table",
) -> None:
    """List the networks: stages, parameters, and the accuracy and cost their authors publish.

    Any of these names can be given to the other commands, with keywords: lf_deit_small:location_grid=9. So can the
    name of any other timm classifier.
    """
    import torch

    from lfvit_cli.catalogue import Entry, find
    from lfvit_cli.networks.build import build
    from lfvit_cli.networks.errors import UnknownModelError
    from lfvit_cli.networks.staged import StagedNetwork

    def row(entry: Entry) -> dict[str, Any]:
        # On the meta device a network has shapes and no weights.
        with torch.device("meta"):
            network = build(entry.spec)
        published = entry.published[0] if entry.published else None
        return {
            "name": entry.spec,
            "family": entry.family,
            "stages": list(cast(StagedNetwork, network).stages),
            "params": sum(parameter.numel() for parameter in network.parameters()),
            "published_top1": published and published.top1,
            "published_gmacs": published and published.gmacs,
            "source": published and published.source,
        }

    entries = find(pattern)
    if not entries:
        raise UnknownModelError(f"no model of the catalogue matches {pattern!r}", "`lfvit models` lists them all.")
    show_table(Table(COLUMNS, [row(entry) for entry in entries]), form)


COLUMNS = (
    Column("name", "model"),
    Column("family", "family"),
    Column("stages", "stages", format=", ".join),
    Column("params", "parameters", "M", scaled(1e6, 1), "right"),
    Column("published_top1", "published top-1", "%", fixed(1), "right"),
    Column("published_gmacs", "published GMACs", "", fixed(2), "right"),
    Column("source", "source"),
)
