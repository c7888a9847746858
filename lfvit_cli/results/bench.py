"""A benchmark as a page of Markdown: the table, the picture, and the circumstances."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lfvit_cli.results.formats import fixed, scaled, significant
from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Column, Row, Table

if TYPE_CHECKING:
    from lfvit_cli.bench.record import BenchRecord, BenchRow

FROM_PREDICTIONS = "on the grocery test photos, from predictions that come with lfvit; not measured in this run"
LEGEND = """\
GMACs are 10^9 multiply-accumulates per image, at the exit rate measured in the timed runs. The promised speed-up is the
ratio of the reference's MACs to the model's. The share of the promise is the median over rounds of the ratio of times
on the same photos, each set against what the exits of that very round promise; the realised speed-up is that share of
the promised one. Images/s: median over rounds, ± the farther end of its bootstrap 95 % interval."""


FIGURES = {
    "speed-vs-cost": "Speed against cost",
    "realised-vs-promised": "Realised against promised speed-up",
    "images-by-batch": "Images a second by batch size",
    "latency-by-exit": "Latency of single images by exit",
}
BREAKDOWN = """\
Milliseconds per image, medians over the timed rounds: each stage; exit, the criterion and what it decides; preparation,
choosing where a later stage looks and gathering what goes on; idle, in which none of these ran. The peak is that of
large matrix products, measured in the same run."""


def bench_markdown(record: "BenchRecord", table: Table, figures: Sequence[str]) -> str:
    """The page that lies beside a benchmark's record.

    Args:
        record: of the benchmark.
        table: from :func:`bench_table`.
        figures: names, without an ending, of the pictures that lie beside it.
    """
    pictures = [f"![{FIGURES[name]}]({name}.png)" for name in figures]
    breakdown = breakdown_table(record)
    parts = [f"# {table.title}", as_markdown(table), LEGEND, *pictures[:1]]
    parts += [f"## {breakdown.title}", as_markdown(breakdown), BREAKDOWN, *pictures[1:]]
    if any(row.top1_from == "predictions" for row in record.rows):
        parts.insert(2, f"\\* {FROM_PREDICTIONS}")
    if record.warnings:
        parts += ["## Warnings", "\n".join(f"- {warning}" for warning in record.warnings)]
    parts += ["## Circumstances", "\n".join(f"- {line}" for line in _circumstances(record))]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def breakdown_table(record: "BenchRecord") -> Table:
    """Where the time goes: a column for each phase, in the order in which they run."""
    names = list(dict.fromkeys(name for row in record.rows for name in row.phase_milliseconds))
    phases = sorted(names, key=lambda name: PHASE_ORDER.get(name, 0))
    rows = [{**row.model_dump(), **row.phase_milliseconds, "run": _run(row), **_exits(row)} for row in record.rows]
    constant = _constant(rows)
    kept = [column for column in COLUMNS[:5] if column.name not in constant]
    columns = [*kept, *(Column(name, name, "ms", significant(3), "right") for name in phases)]
    columns.append(Column("utilisation", "of the peak", "%", scaled(0.01, 0), "right"))
    return Table(columns, rows, "Where an image's time goes")


def _circumstances(record: "BenchRecord") -> list[str]:
    environment, settings, device = record.environment, record.settings, record.environment.device
    decoded = record.decoding[0]
    lines = [
        f"Command: `{' '.join(record.command)}`, {record.created:%Y-%m-%d %H:%M} UTC",
        f"Machine: {environment.cpu}, {environment.logical_cores} hardware threads, {environment.system}",
        "Software: " + ", ".join(f"{name} {version}" for name, version in environment.packages.items() if version),
        f"Photos: {settings.data}, {decoded.photos} decoded beforehand at {decoded.images_per_second:.0f} images/s",
        f"Rounds: at least {settings.min_rounds} and {settings.min_seconds:g} s a row, in turn, seed {settings.seed}",
    ]
    if device is not None:
        lines.insert(2, f"Device: {device.device} ({device.name}), {device.threads} CPU threads")
    lines += [
        f"Ceilings in {ceiling.dtype}, measured: {ceiling.macs_per_second / 1e9:.4g} GMACs/s of matrix products, "
        f"{ceiling.bytes_per_second / 1e9:.3g} GB/s of a copy"
        for ceiling in record.ceilings
    ]
    if record.keeps_freed_memory:
        lines.append("The process kept the memory it freed (glibc's malloc thresholds), which saves page faults")
    lines += [f"Imported: {name}, SHA-256 {sha256}" for name, sha256 in settings.imports.items()]
    if environment.commit:
        lines.append(f"Commit: {environment.commit}{' with changes' if environment.modified else ''}")
    return lines


def bench_table(record: "BenchRecord") -> Table:
    """Only the columns that tell the rows apart: a single precision or batch size goes to the title."""
    rows = [{**row.model_dump(), "top1_shown": _top1(row), "run": _run(row), **_exits(row)} for row in record.rows]
    constant = _constant(rows)
    named = [
        f"{'batch ' if name == 'batch_size' else ''}{rows[0][name]}"
        for name in ("batch_size", "dtype", "run")
        if name in constant
    ]
    title = ", ".join((f"Speed on {record.device_name}", *named))
    return Table([column for column in COLUMNS if column.name not in constant], rows, title)


def _constant(rows: Sequence[Row]) -> set[str]:
    """Columns that tell no rows apart, or that no row has."""
    alike = {name for name in ("batch_size", "dtype", "run") if len({row[name] for row in rows}) == 1}
    return alike | {name for name in OPTIONAL if all(row.get(name) is None for row in rows)}


def _top1(row: "BenchRow") -> str | None:
    mark = "*" if row.top1_from == "predictions" else ""
    return None if row.top1 is None else f"{100 * row.top1:.1f}{mark}"


def _run(row: "BenchRow") -> str:
    """How it ran, in a few words: eager, compiled or recorded, and how its later stage was scheduled."""
    words = ["compiled" if row.compiled else "eager", *(["graphs"] if row.graphs else [])]
    if row.schedule == "queued" and row.policy is not None:
        words.append(f"queue of {row.later_batch or row.batch_size}")
    return ", ".join(words)


def _exits(row: "BenchRow") -> dict[str, Any]:
    """The share of the images that each stage answered, where there are several; a row without exits has none."""
    if row.policy is None:
        return {"exit_rate": None, "answered_shares": None}
    shares = [count / sum(row.answered) for count in row.answered]
    return {"answered_shares": " / ".join(f"{share:.2f}" for share in shares) if len(shares) > 2 else None}


def _latency(value: dict[str, float]) -> str:
    return " / ".join(significant(3)(value[name]) for name in ("mean", "p50", "p90", "p99"))


def _with_interval(value: dict[str, float]) -> str:
    """The median and the farther end of its interval, as a share: 25.3 ±4%."""
    reach = max(value["high"] - value["median"], value["median"] - value["low"])
    return f"{significant(3)(value['median'])} ±{reach / value['median']:.0%}"


# Of those that are no stage.
PHASE_ORDER = {"exit": 1, "preparation": 2, "idle": 4}
# Left out where no row has them.
OPTIONAL = ("exit_rate", "answered_shares", "top1_shown", "end_to_end", "latency", "joules")
COLUMNS = (
    Column("model", "model"),
    Column("batch_size", "batch", justify="right"),
    Column("dtype", "dtype"),
    Column("run", "run"),
    Column("exit_rate", "exit rate", "", fixed(2), "right"),
    Column("answered_shares", "answered by stage", justify="right"),
    Column("top1_shown", "top-1", "%", justify="right"),
    Column("expected_macs", "GMACs", "", scaled(1e9, 2), "right"),
    Column("images_per_second", "images/s", "", _with_interval, "right"),
    Column("end_to_end", "from files", "images/s", _with_interval, "right"),
    Column("latency", "latency, mean / p50 / p90 / p99", "ms", _latency, "right"),
    Column("joules", "energy", "J", significant(3), "right"),
    Column("promised_speedup", "speed-up promised", "", fixed(2), "right"),
    Column("realised_speedup", "realised", "", fixed(2), "right"),
    Column("realised_over_promised", "of the promise", "%", scaled(0.01, 0), "right"),
)
