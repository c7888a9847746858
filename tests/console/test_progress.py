"""Progress stays on standard error: a bar in a terminal, few lines elsewhere."""

import re
from pathlib import Path

import pytest
from running import in_terminal

from lfvit_cli.console.progress import progress, sparse_lines

PROGRAM = """
import time
from lfvit_cli.console.progress import progress
with progress("Timing") as report:
    for step in range(1, 9):
        time.sleep(0.05)
        report(step, 8, "deit_small")
print("answer")
"""


def test_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a long task says a line when the time between lines has passed."""
    report = sparse_lines("Timing", seconds_between=0.0)
    for step in (1, 2):
        report(step, 2, "deit_small")
    assert capsys.readouterr() == ("", "Timing: 1/2 deit_small\nTiming: 2/2 deit_small\n")


def test_a_short_task_says_only_that_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a task shorter than the time between lines says one line, at its end."""
    with progress("Timing", seconds_between_lines=3600) as report:
        for step in range(1, 101):
            report(step, 100, "")
    assert capsys.readouterr() == ("", "Timing: 100/100\n")


def test_a_bar_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal the bar shows task, count, rate and message, and leaves standard output alone."""
    shown, answer = in_terminal(PROGRAM, "stderr", 100, tmp_path)
    assert answer == "answer\n"
    for part in ("Timing", "8/8", "deit_small"):
        assert part in shown
    assert re.search(r"\d+\.\d/s", shown)
