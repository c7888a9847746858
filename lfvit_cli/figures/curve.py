"""Accuracy against cost: exit curves, what they are judged by, and other networks, in one figure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from lfvit_cli.analysis.operating_points import OperatingPoint
from lfvit_cli.analysis.references import ReferencePoint
from lfvit_cli.analysis.sweep import CurvePoint, Sweep
from lfvit_cli.evaluation.authors_curve import AuthorsCurve
from lfvit_cli.figures.labels import Label, place_labels
from lfvit_cli.figures.style import INK, MUTED, colour, marker, styled
from lfvit_cli.policies import Criterion

# More corners than this cannot be seen, and only swell the SVG.
_CORNERS = 600
# A curve of at most so many points is drawn with a mark at each.
_FEW = 40
# Costs that span more than this factor are drawn on a logarithmic axis.
_WIDE = 6.0


class PublishedPoint(NamedTuple):
    """A result from a paper.

    Attributes:
        macs: MACs of one image.
        top1: share answered correctly, 0..1.
    """

    name: str
    macs: float
    top1: float


class _Line(NamedTuple):
    """One sweep in the units of the axes: GMACs (or % of images) and %."""

    x: NDArray[np.float64]
    top1: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    exit_rate: NDArray[np.float64]


def draw_curves(
    sweeps: Sequence[Sweep],
    *,
    published: Sequence[PublishedPoint] = (),
    authors: Sequence[AuthorsCurve] = (),
) -> Figure:
    """Draw top-1 against expected GMACs for one or more sweeps.

    The first sweep also shows the oracle and the random exit, its main operating point, and its exit rate on a second
    axis. Networks with one stage are points. Where the MACs of a sweep are unknown, the axis is the share of images
    that reach the last stage; networks with one stage and curves of authors have no place on it and are left out.

    Args:
        sweeps: may be empty where there are curves of authors.
        published: results from papers, marked as such.
        authors: exit curves as their authors report them, marked as such.
    """
    costed = all(sweep.source.macs is not None for sweep in sweeps)
    shown = [sweep for sweep in sweeps if costed or len(sweep.source.stages) > 1] or list(sweeps[:1])
    published = published if costed else ()
    authors = authors if costed else ()
    with styled(8.0, 5.4) as figure:
        axes = figure.add_subplot()
        title = figure.suptitle("Accuracy against cost", ha="left", fontweight="bold", fontsize=12)
        lines = [_line(sweep, costed) for sweep in shown]
        for index, (sweep, line) in enumerate(zip(shown, lines, strict=True)):
            _draw_sweep(axes, sweep, line, index, several=len(shown) + len(authors) > 1)
        marks = [np.column_stack([line.x, line.top1]) for line in lines]
        marks += [_draw_authors(axes, curve, index) for index, curve in enumerate(authors, start=len(shown))]
        if shown:
            labels, further = _draw_first(axes, shown[0], costed)
            marks += further
        else:
            labels = [label for curve in authors for label in _label_authors_stages(axes, curve)]
        labels += _draw_published(axes, published)
        if shown:
            _dress(axes, shown, lines[0], costed)
        else:
            _dress_authors(axes, authors)
        names = axes.get_legend_handles_labels()[1]
        figure.legend(loc="outside lower center", ncols=max(1, min(len(names), 115 // (max(map(len, names)) + 8))))
        place_labels(figure, axes, labels, np.concatenate(marks))
        title.set_x(axes.get_position().x0)
        # The labels fit this layout, and drawing need not find it again: with an engine it would draw twice.
        figure.set_layout_engine(None)
    return figure


def _line(sweep: Sweep, costed: bool) -> _Line:
    x = np.array([_place(point, costed)[0] for point in sweep.curve])
    # Evenly spaced in cost, so that no visible corner is lost where thresholds crowd.
    kept = np.arange(len(x))
    if len(x) > _CORNERS:
        kept = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], _CORNERS)))
    points = [sweep.curve[row] for row in kept]
    top1, low, high, exit_rate = (
        100 * np.array([getattr(point, name) for point in points])
        for name in ("top1", "top1_low", "top1_high", "exit_rate")
    )
    return _Line(x[kept], top1, low, high, exit_rate)


def _draw_sweep(axes: Axes, sweep: Sweep, line: _Line, index: int, *, several: bool) -> None:
    look: dict[str, Any] = {"color": colour(index), "marker": marker(index), "mec": "white", "zorder": 3}
    if len(line.x) == 1:
        error = [(line.top1 - line.low).tolist(), (line.high - line.top1).tolist()]
        axes.errorbar(line.x, line.top1, yerr=error, color=colour(index), fmt="none", capsize=3, lw=1.2)
        axes.plot(line.x, line.top1, ls="", ms=8, label=sweep.name, **look)
        return
    # Only the ends are marked: the first stage alone and every stage for every image.
    ends = [0, len(line.x) - 1]
    axes.plot(line.x, line.top1, ms=7, markevery=ends, label=sweep.name if several else "early exit", **look)
    band: dict[str, Any] = {"color": colour(index), "alpha": 0.15, "lw": 0}
    axes.fill_between(line.x, line.low, line.high, label=None if several else "95 % interval", **band)


def _draw_first(axes: Axes, sweep: Sweep, costed: bool) -> tuple[list[Label], list[NDArray[np.float64]]]:
    """Draw what only the first sweep shows; return its labels, and points that these should keep clear of."""
    if len(sweep.source.stages) == 1:
        return [], []
    point = sweep.main_point
    label, cross = ([], []) if point is None else _draw_choice(axes, point, sweep.criterion, costed)
    return [*label, *_draw_stages(axes, sweep, costed)], [*cross, *_draw_references(axes, sweep, costed)]


def _draw_references(axes: Axes, sweep: Sweep, costed: bool) -> list[NDArray[np.float64]]:
    """Draw the oracle and the random exit, and return points along them."""
    marks = []
    dashes: dict[str, tuple[float, float]] = {"oracle": (4, 2), "random": (1, 1.6)}
    for name, pattern in dashes.items():
        places = [_place(point, costed) for point in sweep.reference_curves[name]]
        if name == "oracle":
            # The oracle needs no more than its last corner; its line goes on to show what the others stay below.
            places.append((_place(sweep.curve[-1], costed)[0], places[-1][1]))
        x, y = np.array(places).T
        axes.plot(x, y, color=MUTED, lw=1.3, dashes=pattern, label=f"{name} exit", zorder=2)
        along = np.linspace(0, len(x) - 1, 150)
        marks.append(np.column_stack([np.interp(along, range(len(x)), values) for values in (x, y)]))
    return marks


def _draw_stages(axes: Axes, sweep: Sweep, costed: bool) -> list[Label]:
    """Mark what each stage reaches when it answers every image."""
    labels = []
    for stage in sweep.source.stages:
        x, y = _place(sweep.reference_curves[f"{stage}_only"][0], costed)
        axes.plot(x, y, color=MUTED, marker="o", ms=4, ls="", zorder=2)
        labels.append(Label(x, y, f"{stage} only", MUTED))
    return labels


def _place(point: CurvePoint | ReferencePoint, costed: bool) -> tuple[float, float]:
    x = (point.macs or 0.0) / 1e9 if costed else 100 * (1 - point.exit_rate)
    return x, 100 * point.top1


def _draw_choice(
    axes: Axes, point: OperatingPoint, criterion: Criterion, costed: bool
) -> tuple[list[Label], list[NDArray[np.float64]]]:
    """Mark what an operating point does on the held-out images, with its intervals; return points along these."""
    if costed and point.macs is not None:
        x, low, high = (value / 1e9 for value in (point.macs.value, point.macs.low, point.macs.high))
    else:
        x, low, high = (100 * (1 - v) for v in (point.exit_rate.value, point.exit_rate.high, point.exit_rate.low))
    y, bottom, top = (100 * value for value in (point.top1.value, point.top1.low, point.top1.high))
    axes.errorbar(
        x, y, xerr=[[x - low], [high - x]], yerr=[[y - bottom], [top - y]], color=INK, fmt="none", lw=1, capsize=2.5
    )
    axes.plot(x, y, color=INK, marker="*", ms=13, mec="white", ls="", zorder=5, label="chosen, on held-out images")
    across = np.column_stack([np.linspace(low, high, 50), np.full(50, y)])
    upright = np.column_stack([np.full(50, x), np.linspace(bottom, top, 50)])
    sign = "<" if criterion.exits_below else "≥"
    thresholds = ", ".join("none" if value == criterion.no_exit else f"{value:.3f}" for value in point.thresholds)
    label = Label(x, y, f"{criterion} {sign} {thresholds}\n{y:.1f} %", INK, weight="bold")
    return [label], [across, upright]


def _draw_authors(axes: Axes, curve: AuthorsCurve, index: int) -> NDArray[np.float64]:
    """Draw a curve that its authors report, and return points along it."""
    points = np.array([(point.macs / 1e9, 100 * point.top1) for point in curve.curve])
    look: dict[str, Any] = {"color": colour(index), "ls": "-.", "lw": 1.6, "zorder": 3}
    if len(points) <= _FEW:
        look |= {"marker": marker(index), "ms": 4, "mec": "white", "mew": 0.6}
    axes.plot(*points.T, label=f"{curve.name} (its authors' own)", **look)
    along = np.linspace(0, len(points) - 1, 150)
    return np.column_stack([np.interp(along, range(len(points)), values) for values in points.T])


def _label_authors_stages(axes: Axes, curve: AuthorsCurve) -> list[Label]:
    labels = []
    for name, (point,) in curve.reference_curves.items():
        x, y = point.macs / 1e9, 100 * point.top1
        axes.plot(x, y, color=MUTED, marker="o", ms=4, ls="", zorder=4)
        labels.append(Label(x, y, name.replace("_", " "), MUTED))
    return labels


def _draw_published(axes: Axes, published: Sequence[PublishedPoint]) -> list[Label]:
    if not published:
        return []
    x, y = [point.macs / 1e9 for point in published], [100 * point.top1 for point in published]
    axes.scatter(x, y, s=26, facecolors="white", edgecolors=MUTED, lw=1.1, zorder=4, label="published (ImageNet-1k)")
    return [
        Label(*place, point.name, MUTED, size=7) for place, point in zip(zip(x, y, strict=True), published, strict=True)
    ]


def _dress(axes: Axes, shown: Sequence[Sweep], line: _Line, costed: bool) -> None:
    first = shown[0]
    single = len(shown) == 1
    _dress_accuracy(axes)
    if costed:
        _dress_costs(axes)
    else:
        axes.set_xlabel(f"images that reach {first.source.stages[-1]} (%); MACs unknown")
    if len(first.source.stages) > 1:
        _add_exit_axis(axes, first, line, "exit rate (%)" if single else f"exit rate of {first.name} (%)")
    subject = f"{first.name}, " if single else ""
    images = {sweep.images for sweep in shown}
    counts = f"{images.pop():,}" if len(images) == 1 else f"{min(images):,} to {max(images):,}"
    _subtitle(axes, f"{subject}{counts} images")


def _dress_authors(axes: Axes, authors: Sequence[AuthorsCurve]) -> None:
    _dress_accuracy(axes)
    _dress_costs(axes)
    subject = f"{authors[0].name}, " if len(authors) == 1 else ""
    _subtitle(axes, f"{subject}as the authors report it, not measured here")


def _dress_accuracy(axes: Axes) -> None:
    axes.set_ylabel("top-1 accuracy (%)")
    axes.margins(x=0.06, y=0.08)
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))


def _subtitle(axes: Axes, text: str) -> None:
    axes.set_title(text, pad=8, fontsize=9.5, fontweight="normal", color=MUTED)


def _dress_costs(axes: Axes) -> None:
    axes.set_xlabel("expected GMACs per image")
    low, high = axes.dataLim.x0, axes.dataLim.x1
    if low > 0 and high / low > _WIDE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _add_exit_axis(axes: Axes, sweep: Sweep, line: _Line, title: str) -> None:
    """Write the first sweep's exit rate above the costs at which it has it."""
    if len(sweep.source.stages) == 2:
        # With two stages the cost falls in proportion to the exit rate, so round rates have an exact place.
        rates = np.linspace(0.0, 100.0, 6)
        places = np.interp(rates, line.exit_rate[::-1], line.x[::-1])
    else:
        places = np.linspace(line.x[0], line.x[-1], 6)
        rates = np.interp(places, line.x, line.exit_rate)
    top = axes.twiny()
    top.set_xscale(axes.get_xscale())
    top.set_xlim(axes.get_xlim())
    top.set_xticks(places, [f"{rate:.0f}" for rate in rates])
    top.minorticks_off()
    top.grid(visible=False)
    top.tick_params(length=3)
    centre = axes.transAxes.inverted().transform(axes.transData.transform(((places[0] + places[-1]) / 2, 0.0)))[0]
    top.set_xlabel(title, color=MUTED, labelpad=6, x=centre)
