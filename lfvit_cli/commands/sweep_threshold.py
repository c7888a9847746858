"""`lfvit sweep-threshold`: the exact accuracy-against-cost curve, and an exit threshold that can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import FormatOption, OutputOption, SeedOption
from lfvit_cli.console.tables import show_table, show_text

if TYPE_CHECKING:
    from lfvit_cli.analysis.operating_points import Target
    from lfvit_cli.analysis.sweep import SweepRecord
    from lfvit_cli.figures.curve import PublishedPoint
    from lfvit_cli.measure.predictions_table import Predictions

_USAGE = (
    "Pass predictions: a file from `lfvit evaluate`, or any CSV or Parquet file with the columns label, and for each "
    "stage STAGE_prediction and STAGE_confidence"
)


def sweep_threshold(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="PREDICTIONS", help="Predictions files; several are compared in one figure."),
    ] = None,
    criterion: Annotated[
        Literal["confidence", "entropy", "margin"], typer.Option("--criterion", help="What an exit is decided by.")
    ] = "confidence",
    budget: Annotated[
        list[float] | None, typer.Option("--budget", metavar="GMACS", min=0.0, help="Most GMACs an image, on average.")
    ] = None,
    max_drop: Annotated[
        list[float] | None,
        typer.Option("--max-drop", metavar="POINTS", min=0.0, max=100.0, help="Most top-1 to lose to the last stage."),
    ] = None,
    min_accuracy: Annotated[
        list[float] | None,
        typer.Option("--min-accuracy", metavar="TOP1", min=0.0, max=100.0, help="Least top-1: 79.5, or 0.795."),
    ] = None,
    exit_rate: Annotated[
        list[float] | None,
        typer.Option("--exit-rate", metavar="SHARE", min=0.0, max=1.0, help="Least share of early exits, 0 to 1."),
    ] = None,
    macs: Annotated[
        list[str] | None,
        typer.Option(
            "--macs",
            metavar="GMACS,GMACS",
            help="GMACs that each stage adds, for a file that does not tell; once for each such file.",
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also show published ImageNet-1k results in the figure.")
    ] = False,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Random splits into a calibration and a held-out half.")
    ] = 20,
    seed: SeedOption = 0,
    output: OutputOption = Path("reports/sweep"),
    format: FormatOption = "table",  # noqa: A002 - the option's own name
) -> None:
    """Trace top-1 against cost over every exit threshold, and choose one on a held-out split.

    Each of --budget, --max-drop, --min-accuracy and --exit-rate may be given several times; without any, drops of 0,
    0.5, 1 and 2 points.
    """
    if not sources:
        raise typer.BadParameter(_USAGE, param_hint="PREDICTIONS")
    from lfvit_cli.analysis.exits import Criterion
    from lfvit_cli.analysis.sweep import DEFAULT_TARGETS, SweepSettings, sweep, sweep_record
    from lfvit_cli.results.store import prepare_folder
    from lfvit_cli.results.sweep import operating_table, undecided

    settings = SweepSettings(
        criterion=Criterion(criterion),
        targets=_targets(budget, max_drop, min_accuracy, exit_rate) or DEFAULT_TARGETS,
        repeats=repeats,
        seed=seed,
    )
    tables = _with_macs([_predictions(source) for source in sources], macs or [])
    prepare_folder(output)
    sweeps = [
        sweep(table, source, name, settings)
        for table, source, name in zip(tables, sources, _names(tables, sources), strict=True)
    ]
    record = sweep_record(sweeps, settings)
    _save(output, record, published)
    for warning in record.warnings:
        talk.warning(warning)
    if undecided(record):
        talk.note("where it cannot tell, the 95 % interval of the held-out images lies on both sides of the aim")
    if format == "json":
        show_text(record.model_dump_json(indent=1))
    else:
        show_table(operating_table(record), format)
    talk.note(f"written to {output}")


def _predictions(source: str) -> "Predictions":
    """Read a predictions file."""
    from lfvit_cli.measure.predictions_table import read_predictions

    return read_predictions(Path(source))


def _targets(
    budget: list[float] | None,
    max_drop: list[float] | None,
    min_accuracy: list[float] | None,
    exit_rate: list[float] | None,
) -> "tuple[Target, ...]":
    from lfvit_cli.analysis.operating_points import Aim, Target

    return (
        *(Target(aim=Aim.BUDGET, value=value * 1e9) for value in budget or ()),
        *(Target(aim=Aim.MAX_DROP, value=value / 100) for value in max_drop or ()),
        *(Target(aim=Aim.MIN_ACCURACY, value=value / 100 if value > 1 else value) for value in min_accuracy or ()),
        *(Target(aim=Aim.EXIT_RATE, value=value) for value in exit_rate or ()),
    )


def _with_macs(tables: "list[Predictions]", given: list[str]) -> "list[Predictions]":
    """Give the tables without MACs those of the option, in its order."""
    lacking = sum(table.metadata.macs is None for table in tables)
    if given and len(given) != lacking:
        raise typer.BadParameter(f"given {len(given)} times for {lacking} files without MACs", param_hint="--macs")
    rest = iter(given)
    return [table.with_macs(_macs(next(rest))) if given and table.metadata.macs is None else table for table in tables]


def _macs(text: str) -> tuple[int, ...]:
    try:
        return tuple(round(float(part) * 1e9) for part in text.split(","))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is no list of GMACs such as 1.102,2.709", param_hint="--macs") from error


def _names(tables: "list[Predictions]", sources: list[str]) -> list[str]:
    """Name every table by its model, and by its file where that is unknown or not enough."""
    models = [table.metadata.model for table in tables]
    stems = [Path(source).stem for source in sources]
    names = [
        stem if model is None else model if models.count(model) == 1 else f"{model} ({stem})"
        for model, stem in zip(models, stems, strict=True)
    ]
    return [name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True)]


def _published() -> "list[PublishedPoint]":
    """Take from the catalogue the results whose MACs are known."""
    from lfvit_cli.catalogue import CATALOGUE
    from lfvit_cli.figures.curve import PublishedPoint

    return [
        PublishedPoint(entry.spec.replace("_patch16_224", ""), result.gmacs * 1e9, result.top1 / 100)
        for entry in CATALOGUE
        for result in entry.published
        if result.gmacs is not None
    ]


def _save(output: Path, record: "SweepRecord", published: bool) -> None:
    from lfvit_cli.figures.curve import draw_curves
    from lfvit_cli.figures.reliability import draw_reliability
    from lfvit_cli.figures.style import render
    from lfvit_cli.results.store import save_files
    from lfvit_cli.results.sweep import classes_csv, curve_csv, report

    sweeps = [record, *record.others]
    curve = draw_curves(sweeps, published=_published() if published else ())
    calibration = draw_reliability(record.name, record.calibration)
    save_files(
        output,
        {
            "curve.csv": curve_csv(sweeps),
            "curve.json": record.model_dump_json(indent=1) + "\n",
            "curve.png": render(curve, "png"),
            "curve.svg": render(curve, "svg"),
            "calibration.png": render(calibration, "png"),
            "classes.csv": classes_csv(sweeps),
            "report.md": report(record),
        },
    )
