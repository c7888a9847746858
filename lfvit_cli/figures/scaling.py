"""Images a second by batch size, a panel for each precision."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lfvit_cli.figures.style import MUTED, colour, marker, styled

if TYPE_CHECKING:
    from lfvit_cli.bench.record import BenchRecord

LONG_NAME = 36  # characters, beyond which two names do not fit side by side
LINES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 4)))


def scaling_figure(record: "BenchRecord") -> Figure | None:
    """A line for each model and exit rate, with bootstrap 95 % intervals; None where there is one batch size."""
    sizes = sorted({row.batch_size for row in record.rows})
    if len(sizes) < 2:
        return None
    dtypes = list(dict.fromkeys(row.dtype for row in record.rows))
    series = list(dict.fromkeys((row.model, row.asked_rate) for row in record.rows))
    models = list(dict.fromkeys(model for model, _ in series))
    with styled(max(6.4, 4.6 * len(dtypes)), 4.8) as figure:
        panels = figure.subplots(1, len(dtypes), squeeze=False, sharey=True).flat
        for axes, dtype in zip(panels, dtypes, strict=True):
            for model, rate in series:
                rows = [row for row in record.rows if (row.model, row.asked_rate, row.dtype) == (model, rate, dtype)]
                rates = [asked for name, asked in series if name == model]
                speeds = [row.images_per_second for row in rows]
                axes.errorbar(
                    [row.batch_size for row in rows],
                    [speed.median for speed in speeds],
                    yerr=[
                        [speed.median - speed.low for speed in speeds],
                        [speed.high - speed.median for speed in speeds],
                    ],
                    color=colour(models.index(model)),
                    marker=marker(models.index(model)),
                    linestyle=LINES[rates.index(rate) % len(LINES)],
                    capsize=3,
                    elinewidth=1.2,
                    label=model if len(rates) == 1 else f"{model}, {rate:.0%} exit",
                )
            axes.set(xscale="log", yscale="log", xlabel="batch size")
            axes.set_title(dtype, fontsize=10)
            axes.xaxis.set_ticks(sizes)
            axes.xaxis.set_ticks([], minor=True)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else "")
        figure.axes[0].set_ylabel("images/s")
        title = f"Images a second by batch size on {record.device_name}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=2 if max(map(len, names)) <= LONG_NAME else 1,
            handlelength=7,
            title="bars: bootstrap 95 % intervals of the median",
            title_fontsize=7.5,
            alignment="left",
        ).get_title().set_color(MUTED)
    return figure
