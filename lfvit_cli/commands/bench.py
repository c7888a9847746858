"""`lfvit bench`: networks side by side on real photos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import (
    CriterionOption,
    DataOption,
    DeviceOption,
    ImportOption,
    ModelsArgument,
    OutputOption,
    PolicyOption,
    SeedOption,
    ThreadsOption,
    ThresholdsOption,
    exit_thresholds,
    positive_integers,
    shares,
    sources_by_model,
)
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.demo.grocery import is_grocery, judged_split, resolve_data
from lfvit_cli.demo.suite import with_demo_weights

if TYPE_CHECKING:
    from lfvit_cli.bench.record import BenchRecord
    from lfvit_cli.images.listing import Listing
    from lfvit_cli.policies import ExitPolicy

# What the paper's expected MACs imply.
PUBLISHED_EXIT_RATE = 0.78
DTYPES = ("float32", "tf32", "bfloat16", "float16")
# Beyond these nobody waits for a benchmark.
MOST, MOST_SECONDS = 10**6, 86400.0
Schedule = Literal["immediate", "queued"]
Order = Literal["shuffled", "sorted", "easy", "hard"]


def bench(
    context: typer.Context,
    models: ModelsArgument = None,
    data: DataOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Sub-folder. [default: val or validation; test of grocery]")
    ] = None,
    exit_rates: Annotated[
        str | None,
        typer.Option(
            "--exit-rate",
            metavar="SHARE[,SHARE...]",
            help="Shares of images that stop before the last stage, 0 to 1; several give a row each. "
            "[default: the demo network's on the grocery photos, else 0.78]",
        ),
    ] = None,
    threshold: ThresholdsOption = None,
    criterion: CriterionOption = None,
    policy: PolicyOption = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-size", metavar="N[,N...]", help="Images per batch; several give a row each.")
    ] = "32",
    dtypes: Annotated[
        str, typer.Option("--dtype", metavar="TYPE[,TYPE...]", help=f"Precisions: {', '.join(DTYPES)}.")
    ] = "float32",
    device: DeviceOption = "auto",
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="MODEL", help="What speed-ups are measured against. [default: DeiT-S]"),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", metavar="[MODEL=]SOURCE", help="Weights; a bare SOURCE is the first model's."),
    ] = None,
    imports: ImportOption = None,
    schedule: Annotated[
        Schedule,
        typer.Option("--schedule", help="Finish each batch at once, or let images wait for a full batch per stage."),
    ] = "immediate",
    later_batch: Annotated[
        int | None,
        typer.Option(
            "--later-batch",
            "--focus-batch",
            min=1,
            help="Images per batch of a later stage, with --schedule queued. [default: the batch size]",
        ),
    ] = None,
    patience: Annotated[
        int, typer.Option("--max-wait", min=1, help="Maximum number of further batches that a queued image waits for.")
    ] = 16,
    order: Annotated[
        Order, typer.Option("--order", help="Which photos share a batch; easy and hard use half of them.")
    ] = "shuffled",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the stages first.")] = False,
    graphs: Annotated[
        bool, typer.Option("--graphs/--no-graphs", help="Record the stages as CUDA graphs; needs a GPU.")
    ] = False,
    autotuned: Annotated[
        bool,
        typer.Option(
            "--autotune", help="Try ways of running each network, use the fastest, and keep it for the next time."
        ),
    ] = False,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Time reading, decoding and transfer as well.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Write a Chrome trace of each network.")] = False,
    threads: ThreadsOption = None,
    min_seconds: Annotated[
        float, typer.Option("--seconds", min=0, max=MOST_SECONDS, help="Minimum timed seconds of each row.")
    ] = 2.0,
    min_rounds: Annotated[
        int, typer.Option("--rounds", min=10, max=MOST, help="Minimum number of timed rounds of each row.")
    ] = 10,
    max_photos: Annotated[
        int, typer.Option("--photos", min=1, max=MOST, help="Maximum number of photos to decode.")
    ] = 512,
    round_photos: Annotated[
        int,
        typer.Option(
            "--round-photos", min=1, max=MOST, help="Minimum photos per round; a queue is emptied after each round."
        ),
    ] = 32,
    seed: SeedOption = 0,
    output: OutputOption = Path("reports/bench"),
    form: Annotated[Format, typer.Option("--format", help="How to print the answer; json is the record.")] = "table",
) -> None:
    """Time networks in turn on real photos, and set the realised speed-up beside the one their MACs promise.

    Without a MODEL, the four small ones. Photos are decoded before the timing starts. An early exit runs for real: by
    --policy, by --threshold and --criterion, or at the threshold that lets --exit-rate of the photos stop before the
    last stage. The exit rate reported is the one measured in the timed runs. Without --data, the few photos that come
    with lfvit are repeated to fill the batches, and as many exit as the demo network lets exit of the grocery photos;
    --data grocery runs its policy itself.

    Beside the record lie figures: speed against cost, realised against promised speed-up, images/s by batch size where
    there are several, and at batch 1 the latency of single images.
    """
    parsed = {
        "batch_sizes": positive_integers(batch_sizes, "--batch-size"),
        "dtypes": _dtypes(dtypes),
        "exit_rates": None if exit_rates is None else shares(exit_rates, "--exit-rate"),
    }
    if later_batch is not None and schedule != "queued":
        raise typer.BadParameter("it is for --schedule queued", param_hint="--later-batch")
    if split is not None and data is None:
        raise typer.BadParameter("it goes with --data", param_hint="--split")
    if policy and (threshold is not None or exit_rates is not None):
        raise typer.BadParameter("give either a policy, or a threshold or exit rate", param_hint="--policy")

    from lfvit_cli import catalogue
    from lfvit_cli.analysis.demo import demo_exit_rate, demo_policies, demo_policy, known_top1
    from lfvit_cli.bench.record import BenchSettings
    from lfvit_cli.bench.run import run_bench
    from lfvit_cli.files import prepare_folder
    from lfvit_cli.networks.plugins import load_methods
    from lfvit_cli.results.bench import FROM_PREDICTIONS

    imported = load_methods(imports or [])
    chosen = tuple(dict.fromkeys(models or catalogue.SMALL))
    entrants = tuple(dict.fromkeys((*chosen, reference or catalogue.REFERENCE)))
    policies = _policies(entrants, policy or [], threshold, criterion)
    prepare_folder(output)
    listing, source = _photos(data, split)
    given = sources_by_model(checkpoint or [], chosen, "--checkpoint")
    demo = with_demo_weights(entrants, given, data)
    calibrated = {} if exit_rates or threshold else demo_policies(demo)
    if parsed["exit_rates"] is None:
        parsed["exit_rates"] = (demo_exit_rate(calibrated) or PUBLISHED_EXIT_RATE,)
    groceries = data is None or (is_grocery(str(data)) and split in (None, "test") and max_photos >= len(listing))
    # What a network with exits gets right is known where it exits as it was calibrated.
    known = [model for model in entrants if model not in given and (model in calibrated or demo_policy(model) is None)]
    derived = {
        "models": chosen,
        "reference": reference or catalogue.REFERENCE,
        "checkpoints": given | demo,
        "imports": imported,
        "data": source,
        "listing_sha256": listing.sha256,
        "policies": policies if data is None else calibrated | policies,
        "known_top1": known_top1(known) if groceries else {},
    }
    options = {name: value for name, value in context.params.items() if name in BenchSettings.model_fields}
    settings = BenchSettings.model_validate(options | parsed | derived)
    with progress("Benchmark") as report:
        record = run_bench(settings, listing, report, output / "traces" if profile else None)
    paths = _save(record, output)
    _show(record, form)
    for warning in record.warnings:
        talk.warning(warning)
    if any(row.top1_from == "predictions" for row in record.rows):
        talk.note(f"* {FROM_PREDICTIONS}")
    if profile:
        talk.note(f"Traces, for a browser's tracing page or Perfetto: {output / 'traces'}")
    talk.note(f"Written: {', '.join(str(path) for path in paths)}")


def _dtypes(text: str) -> tuple[str, ...]:
    dtypes = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if unknown := [name for name in dtypes if name not in DTYPES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(DTYPES)}", param_hint="--dtype")
    return dtypes


def _policies(
    models: tuple[str, ...], files: list[str], thresholds: str | None, criterion: str | None
) -> "dict[str, ExitPolicy]":
    """The policy of each model that is given one, by a file or by thresholds that serve all."""
    from lfvit_cli.networks.choosing import chosen_policy

    sources = sources_by_model(files, models, "--policy")
    numbers = None if thresholds is None else exit_thresholds(thresholds, "--threshold")
    policies = {}
    for model in models:
        if numbers is not None or model in sources:
            file = sources.get(model)
            policies[model] = chosen_policy(model, None, numbers, criterion, None if file is None else Path(file))
    return policies


def _photos(data: Path | None, split: str | None) -> tuple["Listing", str]:
    """The photos, and what to call them in the record."""
    from lfvit_cli.images.demo import demo_photos
    from lfvit_cli.images.folder import list_folder

    if data is None:
        return demo_photos(), "the photos that come with lfvit, a few of fruit, none of other groceries"
    folder, part = resolve_data(str(data)), judged_split(str(data), split)
    return list_folder(Path(folder), split=part), folder if part is None else f"{folder}, {part}"


def _save(record: "BenchRecord", folder: Path) -> list[Path]:
    from lfvit_cli.figures.latency import latency_figure
    from lfvit_cli.figures.promises import promises_figure
    from lfvit_cli.figures.scaling import scaling_figure
    from lfvit_cli.figures.speed import speed_figure
    from lfvit_cli.figures.style import render
    from lfvit_cli.files import save_files
    from lfvit_cli.results.bench import bench_markdown, bench_table
    from lfvit_cli.results.tables import as_csv

    drawn = {
        "speed-vs-cost": speed_figure(record),
        "realised-vs-promised": promises_figure(record),
        "images-by-batch": scaling_figure(record),
        "latency-by-exit": latency_figure(record),
    }
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    table = bench_table(record)
    return save_files(
        folder,
        {
            "bench.json": record.model_dump_json(indent=2) + "\n",
            "bench.csv": as_csv(table),
            "bench.md": bench_markdown(record, table, list(figures)),
            **{f"{name}.{form}": render(figure, form) for name, figure in figures.items() for form in ("png", "svg")},
        },
    )


def _show(record: "BenchRecord", form: Format) -> None:
    from lfvit_cli.results.bench import bench_table, breakdown_table

    if form == "json":
        show_text(record.model_dump_json(indent=2))
    else:
        show_table(bench_table(record), form)
    if form == "table":
        show_text("")
        show_table(breakdown_table(record), form)
