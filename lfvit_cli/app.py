"""The front door: names every command and imports one only when it runs."""

import os
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Annotated

import typer

from lfvit_cli.console.errors import advice

PROGRAM = "lfvit"

# A command NAME is the function NAME of lfvit_cli/commands/NAME.py, with "_" for "-".
COMMANDS = {
    "models": "List the networks: stages, parameters, published figures.",
    "flops": "Count what every stage of a network costs.",
    "bench": "Time networks side by side on real photos.",
    "evaluate": "Run every stage on every image, and keep what each answers.",
    "visualize": "Show where a network looked in a photo, and why it stopped.",
    "train": "Train a network of any family on photos in class folders.",
    "sweep-threshold": "Trace accuracy against cost, and choose an exit threshold.",
    "data": "Fetch photos to train and measure on.",
}


def main() -> None:
    """Run ``lfvit`` on the process's arguments; a bare ``lfvit`` shows the help."""
    arguments, debug = _take_debug(sys.argv[1:])
    with advice(debug):
        try:
            front_door(arguments, debug)(arguments or ["--help"], prog_name=PROGRAM)
        finally:
            sys.stdout.flush()


def front_door(arguments: list[str], debug: bool = False) -> typer.Typer:
    """Return the program, with the commands that the arguments name imported.

    Shell completion needs the options of every command and imports them all.
    """
    door = typer.Typer(
        help="Adaptive vision transformers: what they cost, how fast they are and whether their early exit pays.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad usage.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    door.callback()(_program_options)
    completing = f"_{PROGRAM.upper()}_COMPLETE" in os.environ
    for name, purpose in COMMANDS.items():
        function = _import_command(name) if completing or name in arguments else _not_imported
        # The advice stands inside Typer, which would end an interrupted command without a word.
        door.command(name, short_help=purpose)(advice(debug)(function))
    return door


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of the arguments, wherever it stands before ``--``; LFVIT_DEBUG asks for it too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    asked = len(kept) < end or os.environ.get("LFVIT_DEBUG", "0") not in ("", "0")
    return kept + arguments[end:], asked


def _import_command(name: str) -> Callable[..., None]:
    module = name.replace("-", "_")
    function: Callable[..., None] = getattr(import_module(f"lfvit_cli.commands.{module}"), module)
    return function


def _not_imported() -> None:
    """Stand for a command that the arguments do not name, which therefore never runs."""


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {metadata.version('lfvit')}")
        raise typer.Exit


def _program_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error. Also after the command, or LFVIT_DEBUG=1."),
    ] = False,
) -> None:
    """Declare the options that stand before a command; ``main`` has already taken ``--debug``."""
