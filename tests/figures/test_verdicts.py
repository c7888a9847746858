"""Decisions in words are true."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_looks import plain_look, region_look, staged_look

from lfvit_cli.figures.verdicts import comparison, effect, gmacs, spent, title
from lfvit_cli.looks.look import Look


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1).map(lambda threshold: float(f"{threshold:g}")))
@example(0.7599999, 0.76)
@example(0.76, 0.76)
@example(0.7549, 0.7545)
def test_a_comparison_is_true_as_written(confidence: float, threshold: float) -> None:
    """A confidence close to the threshold reads on its own side of it."""
    look = region_look(first=confidence, threshold=threshold)
    words = comparison(look, look.stages[0])
    matched = re.fullmatch(r"([\d.]+) ([<≥]) ([\d.e-]+)", words)
    sign = "≥" if look.exited else "<"
    if matched is None:
        assert words == f"just {sign} {threshold:.4g}"
        assert confidence == pytest.approx(threshold, abs=1e-4)
        return
    left, written, right = matched.groups()
    assert written == sign
    assert float(left) >= float(right) if look.exited else float(left) < float(right)


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (region_look(first=0.91), "Answered after location: boot, 0.91 ≥ 0.76"),
        (region_look(first=0.41), "Answered after focus: cap, 0.80; location was not sure: boot, 0.41 < 0.76"),
        (staged_look(3), "Answered after stage_2: coat, 0.50; the 2 stages before were not sure"),
        (plain_look(), "Answer: boot, 0.60"),
    ],
)
def test_titles(look: Look, words: str) -> None:
    """A title says what was answered, after which stage, and why."""
    assert title(look, 10, 15) == words


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (0, "focus spoils a right answer"),
        (1, "focus corrects a wrong answer"),
        (2, "focus does not correct a wrong answer"),
        (None, None),
    ],
)
def test_effects(label: int | None, words: str | None) -> None:
    """What going on did to the answer is said where a label is known."""
    assert effect(region_look(first=0.5, label=label)) == words
    assert effect(region_look(first=0.9, label=label)) is None


def test_costs() -> None:
    """MACs spent are set against those of all stages, where there are several."""
    assert spent(region_look(first=0.9)) == "1.10 of 3.74 GMACs spent (29 %)"
    assert spent(plain_look()) == "4.61 GMACs spent"
    assert gmacs(3_141_592) == "0.00314"


def test_long_names_leave_room_for_the_numbers() -> None:
    """A title of long class names is shortened in the names."""
    look = region_look(first=0.41)
    named = tuple(
        replace(stage, top=tuple(replace(each, name=each.name * 40) for each in stage.top)) for stage in look.stages
    )
    words = title(replace(look, stages=named), 10, 15)
    assert words.startswith("Answered after focus: capcap")
    assert "…, 0.80; location was not sure: bootb" in words
    assert words.endswith("…, 0.41 < 0.76")
