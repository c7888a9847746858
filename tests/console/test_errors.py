"""One line, the remedy, the exit code."""

import errno
import os

import pytest
import typer
from running import Run

from lfvit_cli.console.errors import advice, explain
from lfvit_cli.errors import ResultsError

PROGRAM = """
import os, signal, typer
from lfvit_cli.console.errors import advice
from lfvit_cli.errors import ResultsError
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
@advice(debug=bool(int(os.environ["DEBUG"])))
def fail(size: int = 1) -> None:
    {body}
app()
"""


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        (
            "raise ResultsError('no photos in a', 'Name a folder with photos')",
            1,
            "no photos in a. Name a folder with photos",
        ),
        ("open('missing.txt')", 1, "missing.txt: No such file or directory. Check the path"),
        (
            "raise RuntimeError('two\\nlines')",
            1,
            "internal error: RuntimeError: two lines; run again with --debug for the traceback",
        ),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "interrupted"),
    ],
    ids=["remedy", "file", "internal", "interrupt"],
)
def test_an_exception_is_one_line(run_python: Run, body: str, code: int, line: str) -> None:
    """Every exception of a command ends as one line on standard error and its exit code."""
    done = run_python("-c", PROGRAM.format(body=body), DEBUG="0")
    assert (done.returncode, done.stderr, done.stdout) == (code, f"error: {line}\n", "")


def test_debug_shows_the_traceback(run_python: Run) -> None:
    """With debug the exception passes, traceback and all."""
    done = run_python("-c", PROGRAM.format(body="raise RuntimeError('broken')"), DEBUG="1")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("RuntimeError: broken\n")


def test_the_options_of_an_advised_command_are_its_own(run_python: Run) -> None:
    """Typer reads the options of a decorated command, and refuses a wrong value as bad usage."""
    done = run_python("-c", PROGRAM.format(body="print(size + 1)"), "--size", "2", DEBUG="0")
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert run_python("-c", PROGRAM.format(body="pass"), "--size", "two", DEBUG="0").returncode == 2


def test_bad_usage_found_by_the_command_is_exit_code_2(run_python: Run) -> None:
    """A BadParameter raised inside a command stays bad usage."""
    body = "raise typer.BadParameter('must be odd', param_hint='--size')"
    done = run_python("-c", PROGRAM.format(body=body), DEBUG="0")
    assert done.returncode == 2
    assert "must be odd" in done.stderr


def test_a_reader_that_leaves_is_told_nothing(run_python: Run) -> None:
    """A long answer into a closed pipe ends without a word."""
    body = "ours, theirs = os.pipe(); os.close(ours); os.dup2(theirs, 1); print('x' * 1_000_000)"
    done = run_python("-c", PROGRAM.format(body=body), DEBUG="0")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("exception", [typer.Exit(3), typer.Abort()])
def test_typers_own_signals_pass(exception: Exception) -> None:
    """An orderly exit is no error to explain."""
    with pytest.raises(type(exception)), advice():
        raise exception


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free some space, or write elsewhere"),
        (errno.EACCES, "Change its permissions, or choose another place"),
        (errno.ENOTDIR, "Check the path"),
    ],
)
def test_file_errors_name_the_file_and_the_remedy(number: int, remedy: str) -> None:
    """What to do follows from what the system said about the file."""
    error = OSError(number, os.strerror(number), "results/bench.json")
    assert explain(error) == f"results/bench.json: {os.strerror(number)}. {remedy}"


def test_an_error_without_file_or_remedy_is_internal() -> None:
    """An OSError that concerns no file is not passed off as one."""
    assert explain(ConnectionResetError("gone")).startswith("internal error: ConnectionResetError: gone;")


def test_any_exception_with_a_remedy_is_shown_as_written() -> None:
    """Problem and remedy stand in the order in which they help."""
    assert explain(ResultsError("it is late", "Go to bed")) == "it is late. Go to bed"
