"""`lfvit bench`: networks side by side on real photos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import (
    DataOption,
    DeviceOption,
    ModelsArgument,
    OutputOption,
    SeedOption,
    ThreadsOption,
    ThresholdOption,
    positive_integers,
    shares,
    sources_by_model,
)
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.demo.suite import with_demo_weights

if TYPE_CHECKING:
    from lfvit_cli.images.listing import Listing
    from lfvit_cli.measure.speed_record import BenchRecord

# What the paper's expected MACs imply.
PUBLISHED_EXIT_RATE = 0.78
DTYPES = ("float32", "tf32", "bfloat16", "float16")
Schedule = Literal["immediate", "queued"]
Order = Literal["shuffled", "sorted", "easy", "hard"]


def bench(
    models: ModelsArgument = None,
    data: DataOption = None,
    exit_rate: Annotated[
        str | None,
        typer.Option(
            "--exit-rate",
            metavar="SHARE[,SHARE...]",
            help="Shares of images that exit early, 0 to 1; several give a row each. "
            "[default: as calibrated for the demo network, else 0.78]",
        ),
    ] = None,
    threshold: ThresholdOption = None,
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N[,N...]", help="Images a batch; several give a row each.")
    ] = "32",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="TYPE[,TYPE...]", help=f"Precisions: {', '.join(DTYPES)}.")
    ] = "float32",
    device: DeviceOption = "auto",
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="MODEL", help="What speed-ups are against. [default: DeiT-S]")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", metavar="[MODEL=]SOURCE", help="Weights; a bare SOURCE is the first model's."),
    ] = None,
    schedule: Annotated[
        Schedule,
        typer.Option("--schedule", help="Focus on each batch at once, or let images queue for a full batch of them."),
    ] = "immediate",
    focus_batch: Annotated[
        int | None,
        typer.Option("--focus-batch", min=1, help="Images that queue for the focus. [default: the batch size]"),
    ] = None,
    max_wait: Annotated[
        int, typer.Option("--max-wait", min=1, help="Most further batches that a queued image waits for.")
    ] = 16,
    order: Annotated[
        Order, typer.Option("--order", help="Which photos share a batch; easy and hard use half of them.")
    ] = "shuffled",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the stages first.")] = False,
    graphs: Annotated[
        bool, typer.Option("--graphs/--no-graphs", help="Record the stages as CUDA graphs; needs a GPU.")
    ] = False,
    autotune: Annotated[
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
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Least timed seconds of each row.")] = 2.0,
    rounds: Annotated[int, typer.Option("--rounds", min=10, help="Least timed rounds of each row.")] = 10,
    photos: Annotated[int, typer.Option("--photos", min=1, help="At most so many photos are decoded.")] = 512,
    round_photos: Annotated[
        int, typer.Option("--round-photos", min=1, help="Least photos of a round; a queue is emptied after each.")
    ] = 32,
    seed: SeedOption = 0,
    output: OutputOption = Path("reports/bench"),
    form: Annotated[Format, typer.Option("--format", help="How to print the answer; json is the record.")] = "table",
) -> None:
    """Time networks in turn on real photos, and set the realised speed-up beside the one their MACs promise.

    Without a MODEL, the four small ones. Photos are decoded before the timing starts. An early exit runs for real, at
    --threshold, or at the one that lets --exit-rate of the photos exit. On the demo photos the demo network exits at
    a threshold chosen on other photos. The exit rate reported is the one measured in the timed runs.

    Beside the record lie figures: speed against cost, realised against promised speed-up, images/s by batch size where
    there are several, and at batch 1 the latency of single images.
    """
    batch_sizes = positive_integers(batch_size, "--batch-size")
    dtypes = tuple(dict.fromkeys(part.strip() for part in dtype.split(",")))
    rates = (PUBLISHED_EXIT_RATE,) if exit_rate is None else shares(exit_rate, "--exit-rate")
    if focus_batch is not None and schedule != "queued":
        raise typer.BadParameter("it is for --schedule queued", param_hint="--focus-batch")
    if unknown := [name for name in dtypes if name not in DTYPES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(DTYPES)}", param_hint="--dtype")

    from lfvit_cli import catalogue
    from lfvit_cli.analysis.demo import demo_thresholds, known_top1
    from lfvit_cli.measure.speed import run_bench
    from lfvit_cli.measure.speed_record import BenchSettings
    from lfvit_cli.results.bench import FROM_PREDICTIONS
    from lfvit_cli.results.store import prepare_folder

    chosen = tuple(dict.fromkeys(models or catalogue.SMALL))
    prepare_folder(output)
    listing, source = _photos(data)
    reference = reference or catalogue.REFERENCE
    given = sources_by_model(checkpoint or [], chosen, "--checkpoint")
    entrants = (*chosen, reference)
    demo = with_demo_weights(entrants, given, data)
    # The predictions are for all of the demo photos: their accuracy is not that of a sample.
    whole_demo = data is None and photos >= len(listing)
    settings = BenchSettings(
        models=chosen,
        reference=reference,
        checkpoints=given | demo,
        data=source,
        listing_sha256=listing.sha256,
        max_photos=photos,
        batch_sizes=batch_sizes,
        dtypes=dtypes,
        device=device,
        compiled=compiled,
        graphs=graphs,
        autotuned=autotune,
        threads=threads,
        schedule=schedule,
        later_batch=focus_batch,
        patience=max_wait,
        order=order,
        exit_rates=rates,
        threshold=threshold,
        calibrated=demo_thresholds(demo) if exit_rate is None and threshold is None else {},
        known_top1=known_top1(model for model in entrants if model not in given | demo) if whole_demo else {},
        round_photos=round_photos,
        end_to_end=end_to_end,
        min_rounds=rounds,
        min_seconds=seconds,
        seed=seed,
    )
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


def _photos(data: Path | None) -> tuple["Listing", str]:
    """The photos, and what to call them in the record."""
    from lfvit_cli.images.demo import demo_photos
    from lfvit_cli.images.folder import list_folder

    if data is None:
        return demo_photos("test"), "the demo photos (clothing-256, test)"
    return list_folder(data), str(data)


def _save(record: "BenchRecord", folder: Path) -> list[Path]:
    from lfvit_cli.figures.latency import latency_figure
    from lfvit_cli.figures.promises import promises_figure
    from lfvit_cli.figures.scaling import scaling_figure
    from lfvit_cli.figures.speed import speed_figure
    from lfvit_cli.figures.style import render
    from lfvit_cli.results.bench import bench_markdown, bench_table
    from lfvit_cli.results.store import save_files
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
