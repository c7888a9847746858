"""`lfvit flops`: what every stage of a network costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import FormatOption, ImportOption, ModelsArgument
from lfvit_cli.console.tables import show_table
from lfvit_cli.results.formats import fixed, scaled
from lfvit_cli.results.tables import Column, Table

if TYPE_CHECKING:
    from lfvit_cli.cost import StageCost


def flops(
    models: ModelsArgument = None,
    exit_rate: Annotated[
        float | None,
        typer.Option(
            "--exit-rate",
            min=0,
            max=1,
            help="Add the cost of an early exit at which this share of images stops before the last stage.",
        ),
    ] = None,
    imports: ImportOption = None,
    form: FormatOption = "table",
) -> None:
    """Count the MACs of every stage as it runs, for one image; without a MODEL, the four small ones.

    A MAC is one multiply-accumulate, which papers often call a FLOP. Where the authors' arithmetic differs, because
    their code computes what it does not use, their figure stands beside. No weights are needed.
    """
    import torch

    from lfvit_cli import catalogue
    from lfvit_cli.cost import count_stages, expected_cost
    from lfvit_cli.networks.build import build
    from lfvit_cli.networks.plugins import load_methods

    load_methods(imports or [])
    rows: list[StageCost] = []
    for model in models or catalogue.SMALL:
        torch.manual_seed(0)
        stages = count_stages(model, build(model))
        rows += stages
        if any(stage.varies for stage in stages):
            talk.note(f"what an image costs depends on the image and on the weights in {model}: {BLANK}")
        if exit_rate is not None and len(stages) > 1:
            rows.append(expected_cost(stages, exit_rate))
    columns = COLUMNS if exit_rate is not None else COLUMNS[:-1]
    show_table(Table(columns, [row.model_dump() for row in rows]), form)


def _tokens(per_layer: tuple[int, ...]) -> str:
    """The token count after each pruning: 197>138>97."""
    return ">".join(map(str, dict.fromkeys(per_layer))) or "-"


BLANK = "this is for a blank image and random weights; lfvit bench counts on photos"
COLUMNS = (
    Column("model", "model"),
    Column("stage", "stage"),
    Column("tokens_per_layer", "tokens", format=_tokens, justify="right"),
    Column("macs", "GMACs", "", scaled(1e9, 3), "right"),
    Column("published_macs", "authors' GMACs", "", scaled(1e9, 3), "right"),
    Column("params", "parameters", "M", scaled(1e6, 2), "right"),
    Column("exit_rate", "exit rate", "", fixed(2), "right"),
)
