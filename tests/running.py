"""Running programs as a person would."""

import multiprocessing
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Run = Callable[..., subprocess.CompletedProcess[str]]

TIMEOUT = 900  # seconds

# What a command imports first takes longer than most of what tests ask of it: a process that has it all is forked.
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload(["torch", "timm", "fvcore.nn", "pandas", "matplotlib.pyplot", "scipy.stats", "rich"])


def run_warm(arguments: tuple[str, ...], folder: Path, aside: Path) -> subprocess.CompletedProcess[str]:
    """Run ``lfvit`` in a process of its own that need not import the libraries anew.

    Args:
        arguments: of the command line.
        folder: where it runs.
        aside: a folder for what it prints.
    """
    printed = aside / "stdout", aside / "stderr"
    process = _WARM.Process(target=_run_lfvit, args=(arguments, folder, *printed))
    process.start()
    process.join(TIMEOUT)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(["lfvit", *arguments], TIMEOUT)
    return subprocess.CompletedProcess(["lfvit", *arguments], process.exitcode, *(file.read_text() for file in printed))


def _run_lfvit(arguments: tuple[str, ...], folder: Path, stdout: Path, stderr: Path) -> None:
    for stream, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    os.environ["NO_COLOR"] = "1"
    sys.argv = ["lfvit", *arguments]

    from lfvit_cli.app import main

    main()


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
