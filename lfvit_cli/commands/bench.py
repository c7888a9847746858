"""`lfvit bench`: networks side by side on real photos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    sources_by_model,
)
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.demo.suite import with_demo_weights
from lfvit_cli.results.formats import fixed, scaled, significant
from lfvit_cli.results.tables import Column, Table

if TYPE_CHECKING:
    from lfvit_cli.images.listing import Listing
    from lfvit_cli.measure.speed_record import BenchRecord, BenchRow

# What the paper's expected MACs imply.
PUBLISHED_EXIT_RATE = 0.78
DTYPES = ("float32", "bfloat16", "float16")


def bench(
    models: ModelsArgument = None,
    data: DataOption = None,
    exit_rate: Annotated[
        float | None,
        typer.Option(
            "--exit-rate",
            min=0.0,
            max=1.0,
            help="Share of images that exit early, 0 to 1. [default: as calibrated for the demo network, else 0.78]",
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
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the stages first.")] = False,
    threads: ThreadsOption = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Least timed seconds of each row.")] = 2.0,
    rounds: Annotated[int, typer.Option("--rounds", min=10, help="Least timed rounds of each row.")] = 10,
    photos: Annotated[int, typer.Option("--photos", min=1, help="At most so many photos are decoded.")] = 512,
    seed: SeedOption = 0,
    output: OutputOption = Path("reports/bench"),
    form: Annotated[Format, typer.Option("--format", help="How to print the answer; json is the record.")] = "table",
) -> None:
    """Time networks in turn on real photos, and set the realised speed-up beside the one their MACs promise.

    Without a MODEL, the four small ones. Photos are decoded before the timing starts. An early exit runs for real, at
    --threshold, or at the one that lets --exit-rate of the photos exit. On the demo photos the demo network exits at
    a threshold chosen on other photos. The exit rate reported is the one measured in the timed runs.
    """
    batch_sizes = positive_integers(batch_size, "--batch-size")
    dtypes = tuple(dict.fromkeys(part.strip() for part in dtype.split(",")))
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
        threads=threads,
        exit_rate=PUBLISHED_EXIT_RATE if exit_rate is None else exit_rate,
        threshold=threshold,
        calibrated=demo_thresholds(demo) if exit_rate is None and threshold is None else {},
        known_top1={} if data else known_top1(model for model in entrants if model not in given | demo),
        min_rounds=rounds,
        min_seconds=seconds,
        seed=seed,
    )
    with progress("Benchmark") as report:
        record = run_bench(settings, listing, report)
    paths = _save(record, output)
    _show(record, form)
    for warning in record.warnings:
        talk.warning(warning)
    if any(row.top1_from == "predictions" for row in record.rows):
        talk.note(f"* {FROM_PREDICTIONS}")
    talk.note(f"Written: {', '.join(str(path) for path in paths)}")


def _photos(data: Path | None) -> tuple["Listing", str]:
    """The photos, and what to call them in the record."""
    from lfvit_cli.images.demo import demo_photos
    from lfvit_cli.images.folder import list_folder

    if data is None:
        return demo_photos("test"), "the demo photos (clothing-256, test)"
    return list_folder(data), str(data)


def _save(record: "BenchRecord", folder: Path) -> list[Path]:
    from lfvit_cli.figures.speed import speed_figure
    from lfvit_cli.figures.style import render
    from lfvit_cli.results.bench import bench_markdown
    from lfvit_cli.results.store import save_files
    from lfvit_cli.results.tables import as_csv

    figure = speed_figure(record)
    table = _table(record)
    return save_files(
        folder,
        {
            "bench.json": record.model_dump_json(indent=2) + "\n",
            "bench.csv": as_csv(table),
            "bench.md": bench_markdown(record, table),
            "speed-vs-cost.png": render(figure, "png"),
            "speed-vs-cost.svg": render(figure, "svg"),
        },
    )


def _show(record: "BenchRecord", form: Format) -> None:
    if form == "json":
        show_text(record.model_dump_json(indent=2))
    else:
        show_table(_table(record), form)


def _table(record: "BenchRecord") -> Table:
    """Only the columns that tell the rows apart: a single precision or batch size goes to the title."""
    rows = [{**row.model_dump(), "top1_shown": _top1(row)} for row in record.rows]
    constant = {name for name in ("batch_size", "dtype") if len({row[name] for row in rows}) == 1}
    device = record.environment.device
    constant |= {"top1_shown"} if all(row.top1 is None for row in record.rows) else set()
    named = [
        f"{'batch ' if name == 'batch_size' else ''}{rows[0][name]}"
        for name in ("batch_size", "dtype")
        if name in constant
    ]
    where = device.name if device else record.settings.device
    return Table(
        [column for column in COLUMNS if column.name not in constant], rows, ", ".join((f"Speed on {where}", *named))
    )


def _top1(row: "BenchRow") -> str | None:
    mark = "*" if row.top1_from == "predictions" else ""
    return None if row.top1 is None else f"{100 * row.top1:.1f}{mark}"


def _with_interval(value: dict[str, float]) -> str:
    """The median and the farther end of its interval, as a share: 25.3 ±4%."""
    reach = max(value["high"] - value["median"], value["median"] - value["low"])
    return f"{significant(3)(value['median'])} ±{reach / value['median']:.0%}"


COLUMNS = (
    Column("model", "model"),
    Column("batch_size", "batch", justify="right"),
    Column("dtype", "dtype"),
    Column("exit_rate", "exit rate", "", fixed(2), "right"),
    Column("top1_shown", "top-1", "%", justify="right"),
    Column("expected_macs", "GMACs", "", scaled(1e9, 2), "right"),
    Column("images_per_second", "images/s", "", _with_interval, "right"),
    Column("promised_speedup", "speed-up promised", "", fixed(2), "right"),
    Column("realised_speedup", "realised", "", fixed(2), "right"),
    Column("realised_over_promised", "of the promise", "%", scaled(0.01, 0), "right"),
)
