"""Texts of any origin fit their place."""

import warnings

from hypothesis import given, settings
from hypothesis import strategies as st

from lfvit_cli.figures.page import ELLIPSIS, drawable, fitted, width


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60), st.floats(0.3, 5), st.booleans())
def test_a_text_is_no_wider_than_its_room(text: str, room: float, keep_end: bool) -> None:
    """Whatever the characters, and without a warning about any of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert width(fitted(text, room, 10, keep_end=keep_end), 10) <= room


def test_a_short_text_stays() -> None:
    """Nothing is cut that has room."""
    assert fitted("shoes", 2, 10) == "shoes"


def test_a_long_text_is_cut_once() -> None:
    """The start stays, or start and end."""
    text = "a-very-long-photo-name-0123456789.jpg"
    start = fitted(text, 1, 10)
    assert text.startswith(start.removesuffix(ELLIPSIS))
    assert len(start) > 8
    both = fitted(text, 1, 10, keep_end=True)
    before, after = both.split(ELLIPSIS)
    assert text.startswith(before)
    assert text.endswith(after)
    assert after


def test_what_no_font_has_becomes_a_box() -> None:
    """Line ends and bytes that are no text cannot break a line."""
    assert drawable("a\nb\tc") == "a b c"
    assert drawable("caf\u00e9 \udcff") == "café ?"
    assert drawable("a\x00b") == "a□b"
