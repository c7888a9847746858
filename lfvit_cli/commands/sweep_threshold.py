"""`lfvit sweep-threshold`: the exact accuracy-against-cost curve, and an exit threshold that can be trusted."""

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import DeviceOption, FormatOption, ImportOption, OutputOption, SeedOption
from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.demo.grocery import NAME, judged_split, resolve_data
from lfvit_cli.demo.suite import all_demo_predictions, with_demo_weights
from lfvit_cli.results.tables import Table

if TYPE_CHECKING:
    from lfvit_cli.analysis.sweep import SweepSettings
    from lfvit_cli.analysis.targets import Target
    from lfvit_cli.evaluation.authors_curve import AuthorsCurve
    from lfvit_cli.evaluation.job import EvaluationSettings
    from lfvit_cli.evaluation.table import Predictions

_USAGE = (
    "give predictions (a file of lfvit evaluate, or a CSV or Parquet file with the columns label, and for each stage "
    "STAGE_prediction and STAGE_confidence), a model to evaluate first, or a curve that authors report"
)


def sweep_threshold(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Predictions files, models, or curves that authors report (CSV files, checkpoints), to compare.",
        ),
    ] = None,
    criterion: Annotated[
        Literal["confidence", "margin", "entropy", "top10-entropy"] | None,
        typer.Option(
            "--criterion", help="What exits are decided by. [default: each method's own, or confidence where unknown]"
        ),
    ] = None,
    rule: Annotated[
        Literal["cautious", "point"],
        typer.Option("--rule", help="Choose by 95 % confidence of meeting the aim, or by the point estimate alone."),
    ] = "cautious",
    budget: Annotated[
        list[float] | None,
        typer.Option("--budget", metavar="GMACS", min=0.0, help="Maximum GMACs per image, on average."),
    ] = None,
    max_drop: Annotated[
        list[float] | None,
        typer.Option(
            "--max-drop", metavar="POINTS", min=0.0, max=100.0, help="Maximum loss of top-1 against the last stage."
        ),
    ] = None,
    min_accuracy: Annotated[
        list[float] | None,
        typer.Option(
            "--min-accuracy", metavar="TOP1", min=0.0, max=100.0, help="Minimum top-1, such as 79.5 or 0.795."
        ),
    ] = None,
    exit_rate: Annotated[
        list[float] | None,
        typer.Option(
            "--exit-rate", metavar="SHARE", min=0.0, max=1.0, help="Minimum share of images that exit early, 0 to 1."
        ),
    ] = None,
    macs: Annotated[
        list[str] | None,
        typer.Option(
            "--macs",
            metavar="GMACS,GMACS",
            help="GMACs that each stage adds, for a file that lacks them; once for each such file.",
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Add published ImageNet-1k results to the figure.")
    ] = False,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", min=1, max=1000, help="Number of random splits into a calibration and a held-out half."
        ),
    ] = 20,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", metavar="SOURCE", help="Weights of a model; once for each model."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Images to evaluate a model on. [default: grocery]"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Sub-folder, or split of a data set. [default: val or validation; test of grocery]"
        ),
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option("--class-map", metavar="FILE", help="One class folder a line, or JSON {class folder: index}."),
    ] = None,
    imports: ImportOption = None,
    device: DeviceOption = "auto",
    predictions: Annotated[
        Path, typer.Option("--predictions", metavar="DIR", help="Folder for the predictions of models.")
    ] = Path("reports/predictions"),
    seed: SeedOption = 0,
    output: OutputOption = Path("reports/sweep"),
    form: FormatOption = "table",
) -> None:
    """Trace top-1 against cost over every exit threshold, and choose thresholds that hold on other images.

    A threshold is chosen on one half of the images for each --budget, --max-drop, --min-accuracy and --exit-rate, and
    reported on the other half. Without any of these, for drops of at most 0.5, 1 and 2 points. policy.json keeps the
    first one for lfvit bench, evaluate and visualize.

    A SOURCE is one of these; without any, the predictions for the grocery test photos that come with lfvit.

    - Predictions: a file of lfvit evaluate, or a CSV or Parquet file with the column label, and for each stage
    STAGE_prediction, STAGE_confidence and optionally STAGE_margin, STAGE_entropy, STAGE_top10_entropy, STAGE_top5.

    - A model: it is evaluated first, as by lfvit evaluate, which has more options and shares its files.

    - A curve that authors report, drawn beside the others: a checkpoint that carries it, or a CSV file with a row for
    each point and the columns top1 (per cent) and gmacs (per image; or gmacs_recomputed, gmacs_reported), and
    optionally threshold and exit_rate (0 to 1; or exit_rate_implied).
    """
    sources = sources or all_demo_predictions()
    if not sources:
        raise typer.BadParameter(_USAGE, param_hint="SOURCE")
    from lfvit_cli.analysis.sweep import DEFAULT_TARGETS, SweepSettings
    from lfvit_cli.analysis.targets import Rule
    from lfvit_cli.evaluation.sources import kind_of, read_curve
    from lfvit_cli.evaluation.table import read_predictions
    from lfvit_cli.files import prepare_folder
    from lfvit_cli.policies import Criterion

    settings = SweepSettings(
        criterion=None if criterion is None else Criterion(criterion),
        targets=_targets(budget, max_drop, min_accuracy, exit_rate) or DEFAULT_TARGETS,
        rule=Rule(rule),
        repeats=repeats,
        seed=seed,
    )
    kinds = [kind_of(source) for source in sources]
    models = [source for source, kind in zip(sources, kinds, strict=True) if kind == "model"]
    evaluations = _evaluations(models, checkpoint or [], data, split, class_map, device, imports or [])
    authors = [read_curve(source) for source, kind in zip(sources, kinds, strict=True) if kind == "curve"]
    files = [source for source, kind in zip(sources, kinds, strict=True) if kind == "predictions"]
    tables = [read_predictions(Path(file)) for file in files]
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


def _evaluations(
    models: list[str],
    checkpoints: list[str],
    data: str | None,
    split: str | None,
    class_map: Path | None,
    device: str,
    imports: list[str],
) -> "list[EvaluationSettings]":
    """Settings of each model's evaluation, on the grocery photos where no data are named."""
    options = {
        "--checkpoint": checkpoints,
        "--data": data,
        "--split": split,
        "--class-map": class_map,
        "--import": imports,
    }
    stray = next((option for option, value in options.items() if value and not models), None)
    if stray:
        raise typer.BadParameter("needs a model among the sources", param_hint=stray)
    if checkpoints and len(checkpoints) != len(models):
        given = f"{len(checkpoints)} given for {_counted(len(models), 'model')}"
        raise typer.BadParameter(given, param_hint="--checkpoint")
    if not models:
        return []
    from lfvit_cli.evaluation.job import EvaluationSettings
    from lfvit_cli.networks.build import require_known
    from lfvit_cli.networks.plugins import load_methods

    imported = load_methods(imports)
    for model in models:
        require_known(model)
    place = NAME if data is None else data
    shipped = with_demo_weights(models, {}, place)
    return [
        EvaluationSettings(
            model=model,
            checkpoint=checkpoint or shipped.get(model),
            imports=imported,
            data=resolve_data(place),
            split=judged_split(place, split),
            class_map=class_map,
            device=device,
        )
        for model, checkpoint in zip_longest(models, checkpoints)
    ]


def _evaluated(settings: "EvaluationSettings", folder: Path) -> "tuple[Predictions, str]":
    """Evaluate a model as `lfvit evaluate` does, or reuse its finished evaluation."""
    from lfvit_cli.commands.evaluate import evaluate_talking

    evaluation = evaluate_talking(settings, folder, fresh=False)
    if evaluation is None:
        # Of several processes, only the main one goes on.
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
    """The tables, those without MACs with what the option gives, in its order."""
    lacking = sum(table.metadata.macs is None for table in tables)
    if given and len(given) != lacking:
        raise typer.BadParameter(
            f"{len(given)} given for {_counted(lacking, 'file')} without MACs", param_hint="--macs"
        )
    rest = iter(given)
    return [table.with_macs(_macs(next(rest))) if given and table.metadata.macs is None else table for table in tables]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _macs(text: str) -> tuple[int, ...]:
    try:
        return tuple(round(float(part) * 1e9) for part in text.split(","))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is not a list of GMACs such as 1.102,2.709", param_hint="--macs") from error


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
    from lfvit_cli.evaluation.sources import names_of
    from lfvit_cli.results.sweep import conclusions, has_fallen_back, operating_table
    from lfvit_cli.results.sweep_files import save_sweep

    named = list(zip(tables, files, names_of(tables, files), strict=True))
    rivals = {name: table for table, _, name in named if len(table.stages) == 1}
    sweeps = [sweep(table, file, name, settings, rivals) for table, file, name in named]
    record = sweep_record(sweeps, settings, authors)
    document = record.model_dump_json(indent=1)
    save_sweep(output, record, document, published)
    for warning in record.warnings:
        talk.warning(warning)
    if has_fallen_back(record):
        talk.note("* too few images to certify any threshold for this aim: this is the best by the estimate alone")
    if any(point.verdict == "undecided" for each in sweeps for point in each.operating_points):
        talk.note("aim met 'cannot tell': the 95 % interval of the held-out images lies on both sides of the aim")
    _show(form, document, lambda: operating_table(record))
    for sentence in conclusions(record) if form == "table" else ():
        show_text(f"\n{sentence}")


def _answer_authors(curves: "list[AuthorsCurve]", published: bool, output: Path, form: Format) -> None:
    """Write the files of authors' curves, and show some of their points."""
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
    """Print a record: as JSON in full, otherwise its table."""
    if form == "json":
        show_text(document)
    else:
        show_table(table(), form)
