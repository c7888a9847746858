"""Talk goes to standard error, one line each."""

import pytest

from lfvit_cli.console import talk


def test_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes, warnings and errors are single lines on standard error, each named for what it is."""
    talk.note("batch size\nhalved")
    talk.warning("wide spread")
    talk.error("no photos")
    assert capsys.readouterr() == ("", "batch size halved\nwarning: wide spread\nerror: no photos\n")
