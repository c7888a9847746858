"""`lfvit sweep-threshold`: the exact accuracy-against-cost curve, and an exit threshold that can be trusted."""

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import DeviceOption, FormatOption, ImportOption, OutputOption, SeedOption
from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.demo.suite import all_demo_predictions, with_demo_weights
from lfvit_cli.results.tables import Table

if TYPE_CHECKING:
    from lfvit_cli.analysis.sweep import SweepSettings
    from lfvit_cli.analysis.targets import Target
    from lfvit_cli.evaluation.authors_curve import AuthorsCurve
    from lfvit_cli.evaluation.job import EvaluationSettings
    from lfvit_cli.evaluation.table import Predictions

_USAGE = (
    "Pass predictions (a file from `lfvit evaluate`, or any CSV or Parquet file with the columns label, and for each "
    "stage STAGE_prediction and STAGE_confidence), a model to evaluate first (with --checkpoint and --data), or a "
    "checkpoint that carries its authors' curve"
)
_CHECKPOINTS = {".pth", ".pt", ".bin", ".tar", ".safetensors"}
_TABLES = {".parquet", ".pq", ".csv", ".tsv", ".txt"}


def sweep_threshold(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Predictions files, models, or checkpoints with their authors' curve; several are compared.",
        ),
    ] = None,
    criterion: Annotated[
        Literal["confidence", "margin", "entropy", "top10-entropy"] | None,
        typer.Option("--criterion", help="What an exit is decided by. [default: each method's own, else confidence]"),
    ] = None,
    rule: Annotated[
        Literal["cautious", "point"],
        typer.Option("--rule", help="Choose what is certain to meet the aim, or what meets it by the estimate alone."),
    ] = "cautious",
    budget: Annotated[
        list[float] | None,
        typer.Option("--budget", metavar="GMACS", min=0.0, help="Maximum GMACs per image, on average."),
    ] = None,
    max_drop: Annotated[
        list[float] | None,
        typer.Option(
            "--max-drop", metavar="POINTS", min=0.0, max=100.0, help="Maximum drop of top-1 below the last stage's."
        ),
    ] = None,
    min_accuracy: Annotated[
        list[float] | None,
        typer.Option("--min-accuracy", metavar="TOP1", min=0.0, max=100.0, help="Minimum top-1: 79.5, or 0.795."),
    ] = None,
    exit_rate: Annotated[
        list[float] | None,
        typer.Option("--exit-rate", metavar="SHARE", min=0.0, max=1.0, help="Minimum share of early exits, 0 to 1."),
    ] = None,
    macs: Annotated[
        list[str] | None,
        typer.Option(
            "--macs",
            metavar="GMACS,GMACS",
            help="GMACs that each stage adds, for a file without them; once for each such file.",
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also show published ImageNet-1k results in the figure.")
    ] = False,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=1000, help="Random splits into a calibration and a held-out half.")
    ] = 20,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", metavar="SOURCE", help="Weights of a model named; once for each model."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Images to evaluate a model on. [default: the demo photos]"),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Sub-folder, or split of a data set. [default: val or validation]")
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option("--class-map", metavar="FILE", help="One class folder a line, or JSON {class folder: index}."),
    ] = None,
    imports: ImportOption = None,
    device: DeviceOption = "auto",
    predictions: Annotated[
        Path, typer.Option("--predictions", metavar="DIR", help="Folder for the predictions of a model.")
    ] = Path("reports/predictions"),
    seed: SeedOption = 0,
    output: OutputOption = Path("reports/sweep"),
    form: FormatOption = "table",
) -> None:
    """Trace top-1 against cost over every exit threshold, and choose one on a held-out split.

    Without a SOURCE, the predictions on the demo photos that come with lfvit. Each of --budget, --max-drop,
    --min-accuracy and --exit-rate may be given several times; without any, drops of 0.5, 1 and 2 points. A model is
    evaluated first, as by lfvit evaluate, which has more options and shares its files.
    """
    sources = sources or all_demo_predictions()
    if not sources:
        raise typer.BadParameter(_USAGE, param_hint="SOURCE")
    from lfvit_cli.analysis.sweep import DEFAULT_TARGETS, SweepSettings
    from lfvit_cli.analysis.targets import Rule
    from lfvit_cli.files import prepare_folder
    from lfvit_cli.policies import Criterion

    settings = SweepSettings(
        criterion=None if criterion is None else Criterion(criterion),
        targets=_targets(budget, max_drop, min_accuracy, exit_rate) or DEFAULT_TARGETS,
        rule=Rule(rule),
        repeats=repeats,
        seed=seed,
    )
    kinds = [_kind(source) for source in sources]
    models = [source for source, kind in zip(sources, kinds, strict=True) if kind == "model"]
    evaluations = _evaluations(models, checkpoint or [], data, split, class_map, device, imports or [])
    authors = [_authors_curve(source) for source, kind in zip(sources, kinds, strict=True) if kind == "checkpoint"]
    files = [source for source, kind in zip(sources, kinds, strict=True) if kind == "predictions"]
    tables = [_predictions(file) for file in files]
    prepare_folder(output)
    for evaluation in evaluations:
        table, file = _evaluated(evaluation, predictions)
        tables.append(table)
        files.append(file)
    if tables:
        _answer(_with_macs(tables, macs or []), files, authors, settings, published, output, form)
    else:
        _answer_authors(authors, published, output, form)
    talk.note(f"written to {output}")


def _kind(source: str) -> Literal["predictions", "model", "checkpoint"]:
    """Tell a source by its looks: what is neither a file nor named like one is a model."""
    path = Path(source)
    if source.startswith("hf-hub:") or path.suffix.lower() in _CHECKPOINTS:
        return "checkpoint"
    return "predictions" if path.exists() or path.suffix.lower() in _TABLES or "/" in source else "model"


def _predictions(file: str) -> "Predictions":
    from lfvit_cli.evaluation.table import read_predictions

    return read_predictions(Path(file))


def _authors_curve(source: str) -> "AuthorsCurve":
    from lfvit_cli.evaluation.authors_curve import read_authors_curve

    return read_authors_curve(source)


def _evaluations(
    models: list[str],
    checkpoints: list[str],
    data: str | None,
    split: str | None,
    class_map: Path | None,
    device: str,
    imports: list[str],
) -> "list[EvaluationSettings]":
    """Say how each model is evaluated, on the demo photos where no data are named."""
    options = {
        "--checkpoint": checkpoints,
        "--data": data,
        "--split": split,
        "--class-map": class_map,
        "--import": imports,
    }
    stray = next((option for option, value in options.items() if value and not models), None)
    if stray:
        raise typer.BadParameter("belongs to a model, and none is named", param_hint=stray)
    if checkpoints and len(checkpoints) != len(models):
        given = f"given {len(checkpoints)} times for {len(models)} models"
        raise typer.BadParameter(given, param_hint="--checkpoint")
    if not models:
        return []
    from lfvit_cli.evaluation.job import EvaluationSettings
    from lfvit_cli.images.demo import demo_folder
    from lfvit_cli.networks.plugins import load_methods

    imported = load_methods(imports)
    shipped = with_demo_weights(models, {}, data)
    return [
        EvaluationSettings(
            model=model,
            checkpoint=checkpoint or shipped.get(model),
            imports=imported,
            data=str(demo_folder()) if data is None else data,
            split="test" if data is None and split is None else split,
            class_map=class_map,
            device=device,
        )
        for model, checkpoint in zip_longest(models, checkpoints)
    ]


def _evaluated(settings: "EvaluationSettings", folder: Path) -> "tuple[Predictions, str]":
    """Evaluate a model, or take up its finished evaluation, with the talk of `lfvit evaluate`."""
    from lfvit_cli.commands.evaluate import evaluate_talking

    evaluation = evaluate_talking(settings, folder, fresh=False)
    if evaluation is None:
        # One of several processes, of which the main one goes on.
        raise typer.Exit
    evaluation.predictions.require_labels()
    return evaluation.predictions, str(evaluation.path)


def _targets(
    budget: list[float] | None,
    max_drop: list[float] | None,
    min_accuracy: list[float] | None,
    exit_rate: list[float] | None,
) -> "tuple[Target, ...]":
    from lfvit_cli.analysis.targets import Aim, Target

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
        raise typer.BadParameter(f"{text!r} is not a list of GMACs such as 1.102,2.709", param_hint="--macs") from error


def _names(tables: "list[Predictions]", sources: list[str]) -> list[str]:
    """Name every table by its model, and by its file where that is unknown or not enough."""
    models = [table.metadata.model for table in tables]
    stems = [Path(source).stem for source in sources]
    names = [
        stem if model is None else model if models.count(model) == 1 else f"{model} ({stem})"
        for model, stem in zip(models, stems, strict=True)
    ]
    return [name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True)]


def _answer(
    tables: "list[Predictions]",
    files: list[str],
    authors: "list[AuthorsCurve]",
    settings: "SweepSettings",
    published: bool,
    output: Path,
    form: Format,
) -> None:
    """Sweep the tables, write the files, and show the operating points."""
    from lfvit_cli.analysis.sweep import sweep, sweep_record
    from lfvit_cli.results.sweep import has_fallen_back, operating_table
    from lfvit_cli.results.sweep_files import save_sweep

    named = zip(tables, files, _names(tables, files), strict=True)
    sweeps = [sweep(table, file, name, settings) for table, file, name in named]
    record = sweep_record(sweeps, settings, authors)
    document = record.model_dump_json(indent=1)
    save_sweep(output, record, document, published)
    for warning in record.warnings:
        talk.warning(warning)
    if has_fallen_back(record):
        talk.note(
            "* the images are too few to certify any threshold for this aim: this one is the best by the estimate alone"
        )
    if any(point.verdict == "undecided" for each in sweeps for point in each.operating_points):
        talk.note("where it cannot tell, the 95 % interval of the held-out images lies on both sides of the aim")
    _show(form, document, lambda: operating_table(record))


def _answer_authors(curves: "list[AuthorsCurve]", published: bool, output: Path, form: Format) -> None:
    """Write the files of curves that checkpoints carry, and show some of their points."""
    from lfvit_cli.evaluation.authors_curve import authors_record
    from lfvit_cli.results.authors import authors_table
    from lfvit_cli.results.sweep_files import save_authors

    record = authors_record(curves)
    document = record.model_dump_json(indent=1)
    save_authors(output, record, document, published)
    for warning in record.warnings:
        talk.warning(warning)
    _show(form, document, lambda: authors_table(record))


def _show(form: Format, document: str, table: Callable[[], Table]) -> None:
    """Print a record: whole as JSON, otherwise as its table."""
    if form == "json":
        show_text(document)
    else:
        show_table(table(), form)
