"""Running programs as a person would."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Run = Callable[..., subprocess.CompletedProcess[str]]


def in_terminal(program: str, stream: Literal["stdout", "stderr"], columns: int, folder: Path) -> tuple[str, str]:
    """Run a Python program in a folder with one of its streams on a terminal of some width.

    Returns:
        What the terminal was sent, without control sequences, and what went to the other stream.
    """
    ours, theirs = pty.openpty()
    other: Literal["stdout", "stderr"] = "stderr" if stream == "stdout" else "stdout"
    with (
        (folder / other).open("w+") as aside,
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)},
            stdout=theirs if stream == "stdout" else aside,
            stderr=theirs if stream == "stderr" else aside,
        ),
    ):
        os.close(theirs)
        shown = _read_all(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown), (folder / other).read_text()


def _read_all(terminal: int) -> str:
    """Return what a terminal was sent until its other end closed."""
    parts: list[bytes] = []
    try:
        while part := os.read(terminal, 4096):
            parts.append(part)
    except OSError:  # Linux reports the closed end as an error
        pass
    os.close(terminal)
    return b"".join(parts).decode()
