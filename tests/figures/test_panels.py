"""Whole pages: every text inside, none over another."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_looks import plain_look, pruning_look, region_look, staged_look
from matplotlib.figure import Figure
from matplotlib.text import Text

from lfvit_cli.figures.compare import draw_comparison
from lfvit_cli.figures.panels import draw_panel
from lfvit_cli.figures.sheet import PHOTOS_A_SHEET, decision, draw_sheet
from lfvit_cli.figures.style import render
from lfvit_cli.looks.look import Look

LOOKS = {
    "exited": region_look(first=0.9, label=0),
    "focused": region_look(first=0.4, label=0),
    "9 x 9": region_look(9, 8, first=0.4),
    "whole grid": region_look(5, 5),
    "three prunings": pruning_look(3, label=1),
    "one pruning": pruning_look(1),
    "eight prunings": pruning_look(8),
    "plain": plain_look(label=0),
    "two stages that show nothing": staged_look(2, label=1),
    "three stages by entropy": staged_look(3, criterion="entropy"),
    "five stages by margin": staged_look(5, criterion="margin", label=0),
}
NASTY = "x_$\\frac{1}{0}$ 日本語 🎉 " + "long " * 30


def nasty(look: Look) -> Look:
    """The same look with names that are long, mathematical, in other scripts; untrained."""
    stages = tuple(
        replace(stage, top=tuple(replace(answer, name=f"{answer.name} {NASTY}") for answer in stage.top))
        for stage in look.stages
    )
    named = None if look.label is None else NASTY
    file = look.image.with_name(f"{NASTY}\n\udcff.jpg")
    return replace(look, stages=stages, image=file, model=NASTY, checkpoint=None, label_name=named)


def texts(figure: Figure) -> list[Text]:
    """The texts of a figure, laid out."""
    figure.draw_without_rendering()
    return [text for text in figure.axes[0].texts if text.get_text()]


def check_layout(figure: Figure) -> None:
    """Assert that every text is on the page, and that no two texts touch."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    page = figure.bbox
    for text, box in boxes:
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text
    for index, (text, box) in enumerate(boxes):
        for other, beside in boxes[index + 1 :]:
            assert not box.padded(-1).overlaps(beside.padded(-1)), (text, other)


@pytest.mark.parametrize(
    "look", [*LOOKS.values(), *map(nasty, LOOKS.values())], ids=[*LOOKS, *(f"nasty {name}" for name in LOOKS)]
)
def test_texts_of_a_panel_stand_apart(look: Look) -> None:
    """Whatever the network and the names, all texts are on the page and readable."""
    check_layout(draw_panel(look))


@pytest.mark.parametrize("look", [*LOOKS.values()], ids=[*LOOKS])
def test_numbers_are_never_cut(look: Look) -> None:
    """However long the names, the title ends with its number, and the threshold stays in it."""
    (heading, *_) = texts(draw_panel(nasty(look)))
    assert heading.get_text()[-4:].strip("≥< ").replace(".", "").isdigit()
    assert look.policy is None or f"{look.policy.thresholds[0]:g}" in heading.get_text()


@pytest.mark.parametrize("photo", [(4, 3000), (3000, 4), (1, 1)], ids=["strip", "column", "dot"])
def test_photos_of_any_shape_stay_in_their_box(photo: tuple[int, int]) -> None:
    """A photo is scaled to its box, whatever its shape."""
    shape = np.zeros((*photo, 3), dtype=np.uint8)
    figure = draw_panel(replace(LOOKS["exited"], photo=shape))
    check_layout(figure)
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert right - left <= 3.5 + 1e-9
    assert bottom - top <= 3.5 + 1e-9


@pytest.mark.parametrize("change", [lambda look: look, nasty], ids=["usual", "nasty"])
@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_texts_of_a_comparison_stand_apart(count: int, change: Callable[[Look], Look]) -> None:
    """From one network to more than fit in a row."""
    looks = [LOOKS["exited"], LOOKS["three prunings"], LOOKS["plain"], LOOKS["focused"], LOOKS["one pruning"]]
    check_layout(draw_comparison([change(look) for look in looks[:count]]))


@pytest.mark.parametrize("change", [lambda look: look, nasty], ids=["usual", "nasty"])
@pytest.mark.parametrize("count", [1, 7, PHOTOS_A_SHEET])
def test_texts_of_a_contact_sheet_stand_apart(count: int, change: Callable[[Look], Look]) -> None:
    """From one photo to a full sheet."""
    looks = [LOOKS["exited"], LOOKS["focused"]] * PHOTOS_A_SHEET
    check_layout(draw_sheet([change(look) for look in looks[:count]]))


def test_decisions_differ_in_letter_and_in_colour() -> None:
    """A sheet can be read without colour vision."""
    looks = (region_look(first=0.9, label=0), region_look(first=0.4, label=1), region_look(first=0.4, label=0))
    decisions = [decision(look) for look in looks]
    assert [each.letter for each in decisions] == ["L", "F", "H"]
    assert len({each.colour for each in decisions}) == 3


def test_untrained_weights_are_told() -> None:
    """A picture of random weights says so, one of trained weights does not."""
    for drawing in (draw_panel, lambda look: draw_sheet([look]), lambda look: draw_comparison([look])):
        said = [text.get_text() for text in texts(drawing(replace(LOOKS["exited"], checkpoint=None)))]
        assert any("Untrained weights" in text for text in said)
        assert not any("Untrained" in text.get_text() for text in texts(drawing(LOOKS["exited"])))


def test_the_same_look_gives_the_same_bytes() -> None:
    """A picture depends on nothing but what it shows."""
    for form in ("png", "svg"):
        first, second = (render(draw_panel(LOOKS["focused"]), form) for _ in range(2))
        assert first == second


def test_the_threshold_stands_where_it_belongs() -> None:
    """Bars and threshold share one scale: a bar as long as the threshold ends on its line."""
    figure = draw_panel(region_look(first=0.76, threshold=0.76))
    drawn: Any = figure.axes[0]
    (threshold,) = (line for line in drawn.collections if line.get_linestyle()[0][1] is not None)
    x = threshold.get_segments()[0][0, 0]
    assert any(bar.get_x() + bar.get_width() == pytest.approx(x) for bar in drawn.patches)
