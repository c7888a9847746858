"""A benchmark as a page of Markdown: the table, the picture, and the circumstances."""

from typing import TYPE_CHECKING

from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Table

if TYPE_CHECKING:
    from lfvit_cli.measure.speed_record import BenchRecord

FROM_PREDICTIONS = "from predictions that come with lfvit: the weights that made them do not, and are not timed"
LEGEND = """\
GMACs are 10^9 multiply-accumulates an image, at the exit rate measured in the timed runs. The promised speed-up is the
ratio of the reference's MACs to the model's. The share of the promise is the median over rounds of the ratio of times
on the same photos, each set against what the exits of that very round promise; the realised speed-up is that share of
the promised one. Images/s: median over rounds, ± the farther end of its bootstrap 95 % interval."""


def bench_markdown(record: "BenchRecord", table: Table) -> str:
    """The page that lies beside a benchmark's record and its figure ``speed-vs-cost.png``."""
    parts = [f"# {table.title}", as_markdown(table), LEGEND, "![Speed against cost](speed-vs-cost.png)"]
    if any(row.top1_from == "predictions" for row in record.rows):
        parts.insert(2, f"\\* {FROM_PREDICTIONS}")
    if record.warnings:
        parts += ["## Warnings", "\n".join(f"- {warning}" for warning in record.warnings)]
    parts += ["## Circumstances", "\n".join(f"- {line}" for line in _circumstances(record))]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


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
        compiled = "compiled" if settings.compiled else "not compiled"
        lines.insert(2, f"Device: {device.device} ({device.name}), {device.threads} CPU threads, {compiled}")
    if environment.commit:
        lines.append(f"Commit: {environment.commit}{' with changes' if environment.modified else ''}")
    return lines
