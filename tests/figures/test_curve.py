"""Tests of figures/curve.py."""

from typing import Literal

import numpy as np
import pytest
from made_predictions import random_predictions
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from lfvit_cli.analysis.sweep import Sweep, SweepSettings, sweep
from lfvit_cli.analysis.targets import Aim, Target
from lfvit_cli.evaluation.authors_curve import AuthorsCurve, AuthorsPoint
from lfvit_cli.figures.curve import PublishedPoint, draw_curves
from lfvit_cli.figures.style import render
from lfvit_cli.policies import Criterion

SETTINGS = SweepSettings(repeats=3)
PUBLISHED = [
    PublishedPoint("DeiT-T", 1.26e9, 0.722),
    PublishedPoint("DeiT-S", 4.61e9, 0.798),
    PublishedPoint("DeiT-B", 17.58e9, 0.818),
    PublishedPoint("DynamicViT-S/0.7", 2.9e9, 0.793),
    PublishedPoint("ATS-S", 2.9e9, 0.797),
    PublishedPoint("Evo-ViT-S", 3.0e9, 0.794),
]


AUTHORS = AuthorsCurve(
    name="lf-vit",
    file="lf-vit.pth",
    sha256="",
    curve=tuple(AuthorsPoint(exit_rate=None, top1=top1, macs=macs) for macs, top1 in [(1.2e9, 0.75), (3.8e9, 0.8)]),
    reference_curves={
        "location_only": (AuthorsPoint(exit_rate=1, top1=0.7, macs=1.1e9),),
        "focus_only": (AuthorsPoint(exit_rate=0, top1=0.81, macs=3.9e9),),
    },
)


def made(images: int = 150, stages: tuple[str, ...] = ("location", "focus"), name: str = "m", seed: int = 0) -> Sweep:
    """Sweep a made table."""
    return sweep(random_predictions(images, stages=stages, seed=seed), "p.parquet", name, SETTINGS)


def line(axes: Axes, label: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Take the points of a line by its label in the legend."""
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return np.asarray(found.get_xydata())


def legend(figure: Figure) -> list[str]:
    """Take the names of the legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_curve_is_drawn_as_it_is() -> None:
    """Every point of a small curve is in the figure, in GMACs and per cent, and so are its references."""
    swept = made()
    figure = draw_curves([swept])
    axes = figure.axes[0]
    expected = np.array([((point.macs or 0) / 1e9, 100 * point.top1) for point in swept.curve])
    assert np.allclose(line(axes, "early exit"), expected)
    first, last = (swept.reference_curves[f"{stage}_only"][0] for stage in ("location", "focus"))
    assert line(axes, "random exit")[:, 1] == pytest.approx([100 * first.top1, 100 * last.top1])
    assert line(axes, "oracle exit")[-1, 1] == pytest.approx(100 * swept.reference_curves["oracle"][-1].top1)
    point = swept.main_point
    assert point is not None
    assert line(axes, "chosen, on held-out images")[0, 1] == pytest.approx(100 * point.top1.value)
    assert axes.get_xlabel() == "expected GMACs per image"


def test_many_points_are_thinned_without_losing_the_ends() -> None:
    """A long curve keeps both ends and stays close to itself with far fewer corners."""
    swept = made(images=5_000)
    drawn = line(draw_curves([swept]).axes[0], "early exit")
    whole = np.array([((point.macs or 0) / 1e9, 100 * point.top1) for point in swept.curve])
    assert len(drawn) <= 600 < len(whole)
    assert np.allclose(drawn[[0, -1]], whole[[0, -1]])
    assert np.abs(np.interp(whole[:, 0], *drawn.T) - whole[:, 1]).max() < 0.2


def test_exit_rates_stand_above_their_costs() -> None:
    """The second axis puts each exit rate above the expected MACs at which it is reached."""
    figure = draw_curves([made()])
    top = figure.axes[1]
    macs = (1_101_957_888, 2_708_842_368)
    for place, label in zip(top.get_xticks(), top.get_xticklabels(), strict=True):
        rate = float(label.get_text()) / 100
        assert place == pytest.approx((macs[0] + (1 - rate) * macs[1]) / 1e9)
    assert top.get_xlim() == figure.axes[0].get_xlim()
    assert top.get_xlabel() == "exit rate (%)"


def test_four_systems_share_one_figure() -> None:
    """A curve and three networks without an exit are one figure, each by name."""
    sweeps = [made(name="lf"), *(made(stages=("full",), name=name, seed=3) for name in ("deit", "dynamic", "evo"))]
    figure = draw_curves(sweeps)
    assert {"lf", "deit", "dynamic", "evo", "oracle exit", "random exit"} <= set(legend(figure))
    assert "exit rate of lf (%)" in {axes.get_xlabel() for axes in figure.axes}


def test_published_results_are_marked_as_such() -> None:
    """Published results say in the legend that they are, and wide costs get a logarithmic axis."""
    figure = draw_curves([made()], published=PUBLISHED, authors=[AUTHORS])
    assert {"published (ImageNet-1k)", "lf-vit (its authors' own)"} <= set(legend(figure))
    assert figure.axes[0].get_xscale() == "log"
    drawn = line(figure.axes[0], "lf-vit (its authors' own)")
    assert drawn.tolist() == [pytest.approx([1.2, 75]), pytest.approx([3.8, 80])]


def test_the_authors_curve_stands_alone() -> None:
    """Without predictions the authors' curve is drawn with its stages, and the figure says what it is worth."""
    figure = draw_curves([], authors=[AUTHORS])
    (axes,) = figure.axes
    assert "as the authors report it, not measured here" in axes.get_title("left")
    assert {text.get_text() for text in axes.texts} == {"location only", "focus only"}
    assert legend(figure) == ["lf-vit (its authors' own)"]
    assert len(render(figure, "png")) > 10_000


def test_the_certified_point_is_the_one_shown() -> None:
    """Where the first aim cannot be certified and a later one can, the star stands at the later one."""
    aims = tuple(Target(aim=Aim.MAX_DROP, value=drop) for drop in (0.0, 0.05))
    swept = sweep(random_predictions(800), "p.parquet", "m", SweepSettings(repeats=3, targets=aims))
    unsure, sure = swept.operating_points
    assert (unsure.certified, sure.certified) == (False, True)
    star = line(draw_curves([swept]).axes[0], "chosen, on held-out images")
    assert star[0, 1] == pytest.approx(100 * sure.top1.value)


def test_the_label_names_criterion_and_thresholds() -> None:
    """The chosen point says what is compared with which threshold, for every criterion and each stage."""
    aims = (Target(aim=Aim.EXIT_RATE, value=0.5),)
    for criterion, sign in ((Criterion.MARGIN, "≥"), (Criterion.TOP10_ENTROPY, "<")):
        table = random_predictions(150, stages=("one", "two", "three"))
        swept = sweep(table, "p.parquet", "m", SweepSettings(criterion=criterion, repeats=3, targets=aims))
        first, second = (f"{value:.3f}" for value in swept.operating_points[0].thresholds)
        texts = [text.get_text() for text in draw_curves([swept]).axes[0].texts]
        assert any(text.startswith(f"{criterion} {sign} {first}, {second}\n") for text in texts)


def test_unknown_macs_are_drawn_by_exit_rate() -> None:
    """Without MACs the axis is the share of images that reach focus, and says so."""
    table = random_predictions(80, macs=False)
    figure = draw_curves([sweep(table, "p.csv", "foreign", SETTINGS)])
    axes = figure.axes[0]
    assert axes.get_xlabel() == "images that reach focus (%); MACs unknown"
    assert line(axes, "early exit")[[0, -1], 0].tolist() == [0, 100]


@pytest.mark.parametrize("stages", [("full",), ("one", "two", "three")])
def test_any_number_of_stages_is_drawn(stages: tuple[str, ...]) -> None:
    """One stage is a point, three a curve with every stage marked."""
    figure = draw_curves([made(stages=stages)])
    assert len(render(figure, "png")) > 10_000


@pytest.mark.parametrize("sweeps", [1, 2])
def test_no_text_is_cut_or_covers_another(sweeps: int) -> None:
    """Every label, title and legend lies within the figure, and no two labels overlap."""
    names = ("lf_deit_small", "lf_deit_small:location_grid=9,region_size=8")
    figure = draw_curves([made(name=name, seed=seed) for seed, name in enumerate(names[:sweeps])], published=PUBLISHED)
    render(figure, "png")
    axes = figure.axes[0]
    # An annotation's extent includes the line to its point, which may touch others; its text alone may not.
    boxes = [super(Annotation, text).get_window_extent() for text in axes.texts if isinstance(text, Annotation)]
    assert len(boxes) == len(PUBLISHED) + 3
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    whole = figure.bbox
    tight = figure.get_tightbbox()
    assert tight.x0 * figure.dpi >= whole.x0 - 1
    assert tight.x1 * figure.dpi <= whole.x1 + 1
    assert tight.y0 * figure.dpi >= whole.y0 - 1
    assert tight.y1 * figure.dpi <= whole.y1 + 1


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_the_same_data_give_the_same_bytes(file_format: Literal["png", "svg"]) -> None:
    """Drawing twice gives the same file, byte for byte, whatever was drawn before."""
    swept = made()
    one = render(draw_curves([swept]), file_format)
    draw_curves([made(seed=5)])
    assert render(draw_curves([swept]), file_format) == one
