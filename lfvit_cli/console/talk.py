"""What is said on standard error, one line at a time; standard output is for answers."""

import os

import typer


def note(text: str) -> None:
    """Say something good to know."""
    _say(text, None)


def warning(text: str) -> None:
    """Say something that may change how an answer is read."""
    _say(f"warning: {text}", "yellow")


def error(text: str) -> None:
    """Say why the command failed, and what to do."""
    _say(f"error: {text}", "red")


def _say(text: str, colour: str | None) -> None:
    plain = False if os.environ.get("NO_COLOR") else None
    typer.secho(" ".join(text.split()), fg=colour, err=True, color=plain)
