"""Ctrl-C heard in the middle of a step, and obeyed after it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """Whether the training has been asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def hear(self, number: int) -> None:
        """Take note of a signal; a second Ctrl-C does not wait."""
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Note an interrupt or a termination instead of breaking off; only the main thread can."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {
        number: signal.signal(number, lambda number, _frame: request.hear(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
