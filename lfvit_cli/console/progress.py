"""How far a long task is: a bar in a terminal, a line now and then elsewhere, always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lfvit_cli.console import talk

if TYPE_CHECKING:
    from lfvit_cli.records import Progress as Report


@contextmanager
def progress(task: str, seconds_between_lines: float = 10.0) -> "Iterator[Report]":
    """Give a function ``report(done, total, message)`` for the library to call as it goes.

    Args:
        task: what is being done, such as "Timing".
        seconds_between_lines: how rarely a line appears where standard error is not a terminal.
    """
    if sys.stderr.isatty():
        with _bar(task) as report:
            yield report
    else:
        yield sparse_lines(task, seconds_between_lines)


@contextmanager
def _bar(task: str) -> "Iterator[Report]":
    """Show a bar with rate and time left, and give the function that moves it."""
    # Rich is imported here because every --help must answer at once.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", style="progress.data.speed"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[message]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        identity = shown.add_task(task, total=None, message="", rate="")

        def report(done: int, total: int, message: str) -> None:
            speed = shown.tasks[identity].speed
            rate = "" if speed is None else f"{speed:.1f}/s"
            shown.update(identity, completed=done, total=total, message=message, rate=rate)

        yield report


def sparse_lines(task: str, seconds_between: float) -> "Report":
    """Return a reporter that says a line at most every so many seconds, and one at the end."""
    last = time.monotonic()

    def report(done: int, total: int, message: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= seconds_between:
            last = now
            talk.note(f"{task}: {done}/{total} {message}")

    return report
