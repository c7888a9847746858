"""Whole pages: every text inside, none over another."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_looks import plain_look, pruning_look, region_look, staged_look, tracing_look
from matplotlib.figure import Figure
from matplotlib.text import Text

from lfvit_cli.figures.gallery import PHOTOS_A_SHEET, decision, draw_comparison, draw_sheet
from lfvit_cli.figures.panels import draw_panel, views
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
    "twelve stages that show nothing": staged_look(12),
    "three stages that show all": tracing_look(),
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
    """However long the names, the probability stays in the title; so does a threshold that it speaks of."""
    heading = texts(draw_panel(nasty(look)))[0].get_text()
    assert f", {look.answer.probability:.2f}" in heading
    assert look.policy is None or look.answered > 1 or f" {look.policy.thresholds[0]:g}" in heading


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_pictures_and_answers_stay_on_the_page(look: Look) -> None:
    """No picture, bar or outline of a cost leaves the page, and no picture covers another."""
    figure = draw_panel(look)
    width, height = figure.get_size_inches()
    drawn: Any = figure.axes[0]
    pictures = {tuple(image.get_extent()) for image in drawn.images}
    for left, right, bottom, top in pictures:
        assert 0 < left < right < width
        assert 0 < top < bottom < height
    for shape in drawn.patches:
        assert 0 < shape.get_x() <= shape.get_x() + shape.get_width() < width
        assert 0 < shape.get_y() <= shape.get_y() + shape.get_height() < height
    for one, other in itertools.combinations(pictures, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[2] <= other[3] or other[2] <= one[3]


def test_at_most_four_prunings_are_drawn_and_the_others_named() -> None:
    """The first, the last and two between; the others by what they are called."""
    look = pruning_look(8)
    assert [view.caption for view in views(look)] == ["layer 3", "layer 9", "layer 18", "layer 24"]
    said = [text.get_text() for text in texts(draw_panel(look))]
    assert "Not drawn: layer 6, 12, 15, 21." in said
    assert not any("Not drawn" in text.get_text() for text in texts(draw_panel(pruning_look(4))))


def test_every_stage_shows_its_own_traces() -> None:
    """A heat map, a region alone, and tokens; what the early exit never ran is marked as such."""
    shown = views(tracing_look())
    assert [view.caption for view in shown] == ["coarse: attention", "middle: region", "fine: windows"]
    assert [view.skipped for view in shown] == [False, False, True]
    said = [text.get_text() for text in texts(draw_panel(tracing_look()))]
    assert "fine: windows (not run)" in said


def test_what_little_a_network_knows_is_said_in_every_picture() -> None:
    """At the foot of panels, sheets and comparisons."""
    look = replace(LOOKS["exited"], knows="knows only boot and cap, and calls everything else one of them")
    for figure in (draw_panel(look), draw_sheet([look, look]), draw_comparison([look, LOOKS["plain"]])):
        said = [text.get_text() for text in texts(figure)]
        assert said.count(f"{look.model} {look.knows}.") == 1


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


def test_a_sheet_has_a_key_to_every_decision() -> None:
    """Each with its count, in as many lines as it takes; a single stage decides nothing, and needs none."""
    look = staged_look(7)
    looks = [replace(look, answered=index) for index in (*range(7), 6)]
    figure = draw_sheet(looks)
    check_layout(figure)
    said = [text.get_text() for text in texts(figure)]
    assert [f"answered after stage_{index}: 1" in said for index in range(6)] == [True] * 6
    assert "went on to stage_6: 2" in said
    assert not any("answered" in text.get_text() for text in texts(draw_sheet([plain_look()])))


def test_decisions_differ_in_letter_and_in_colour() -> None:
    """A sheet can be read without colour vision."""
    looks = (region_look(first=0.9, label=0), region_look(first=0.4, label=1), region_look(first=0.4, label=0))
    decisions = [decision(look) for look in looks]
    assert [each.letter for each in decisions] == ["L", "F", "✗"]
    assert len({each.colour for each in decisions}) == 3
    # Stages of one initial go by their number.
    assert decision(staged_look(3)).letter == "3"


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
