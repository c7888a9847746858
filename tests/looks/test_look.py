"""What is said of a look."""

from dataclasses import replace

import pytest
from made_looks import plain_look, region_look

from lfvit_cli.looks.look import Look, look_record
from lfvit_cli.policies import ExitPolicy


@pytest.mark.parametrize(("first", "exited", "macs"), [(0.9, True, 1_100_000_000), (0.5, False, 3_740_000_000)])
def test_an_early_exit_spends_less(first: float, exited: bool, macs: int) -> None:
    """MACs count the stages up to the one whose answer stands."""
    look = region_look(first=first)
    assert look.exited is exited
    assert look.macs == macs
    assert look.most_macs == 3_740_000_000


@pytest.mark.parametrize(
    ("look", "right", "harmed"),
    [
        (region_look(first=0.5, label=0), False, True),
        (region_look(first=0.5, label=1), True, False),
        (region_look(first=0.5, label=2), False, False),
        (region_look(first=0.9, label=0), True, False),
        (region_look(first=0.9, label=1), False, False),
        (region_look(first=0.5), None, False),
        (plain_look(label=1), False, False),
    ],
)
def test_harm_is_a_right_answer_lost_in_going_on(look: Look, right: bool | None, harmed: bool) -> None:
    """Only a later answer can harm, and only where the first was right."""
    assert look.right is right
    assert look.harmed is harmed


def test_a_record_tells_what_was_seen() -> None:
    """The record has the stages by name, with what each showed."""
    look = region_look(first=0.5, label=1)
    record = look_record(look)
    assert record.image == "photos/a photo.jpg"
    assert (record.answered_by, record.exited, record.macs) == ("focus", False, 3_740_000_000)
    assert record.policy == ExitPolicy.at(0.76)
    (heat,), (box, tokens) = (record.stages[name].traces for name in ("location", "focus"))
    assert (heat.kind, heat.grid) == ("heat", (7, 7))
    assert (box.kind, box.box, box.grid) == ("box", (2, 0, 5, 5), (7, 7))
    assert (tokens.kind, tokens.grid) == ("tokens", (14, 14))
    assert tokens.owner is not None
    assert len(set(tokens.owner)) == 88 + 27
    assert record.stages["location"].prediction == 0
    assert record.stages["focus"].confidence == 0.8
    assert [each.name for each in record.stages["focus"].top5] == ["cap", "boot", "coat", "robe", "sock"]


def test_a_record_says_whether_the_weights_are_trained() -> None:
    """Weights from nowhere are random."""
    assert look_record(plain_look()).trained
    assert not look_record(replace(plain_look(), checkpoint=None)).trained
