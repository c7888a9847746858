"""How far a long task is: a bar in a terminal, a line now and then elsewhere, always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lfvit_cli.console import talk

Report = Callable[[int, int, str], None]


@contextmanager
def progress(task: str, seconds_between_lines: float = 10.0) -> Iterator[Report]:
    """Give a function ``report(done, total, message)`` for the library to call as it goes.

    Args:
        task: What is being done, such as "Timing".
        seconds_between_lines: How rarely a line appears where standard error is no terminal.
    """
    if sys.stderr.isatty():
        # Rich is imported here because every --help must answer at once.
        from lfvit_cli.console.bar import bar

        with bar(task) as report:
            yield report
    else:
        yield sparse_lines(task, seconds_between_lines)


def sparse_lines(task: str, seconds_between: float) -> Report:
    """Return a reporter that says a line at most every so many seconds, and one at the end."""
    last = time.monotonic()

    def report(done: int, total: int, message: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= seconds_between:
            last = now
            talk.note(f"{task}: {done}/{total} {message}")

    return report
