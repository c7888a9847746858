"""The front door, as a person at a terminal meets it."""

import os
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
from running import Run

from lfvit_cli.app import COMMANDS, _take_debug

HEAVY = {"torch", "timm", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "rich"}


def imported(error_output: str) -> set[str]:
    """Return the top-level modules that ``-X importtime`` names."""
    lines = (line for line in error_output.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [(), ("--help",)], ids=["bare", "--help"])
def test_help_lists_every_command(lfvit: Run, arguments: tuple[str, ...]) -> None:
    """A bare lfvit and --help both show every command with its purpose."""
    done = lfvit(*arguments, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    for name, purpose in COMMANDS.items():
        assert f"{name} " in done.stdout
        assert purpose in done.stdout


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)], ids=["lfvit", *COMMANDS])
def test_help_imports_nothing_heavy(run_python: Run, arguments: tuple[str, ...]) -> None:
    """Every --help answers without importing a library that takes long to import."""
    done = run_python("-X", "importtime", "-m", "lfvit_cli", *arguments, "--help")
    assert done.returncode == 0, done.stderr
    modules = imported(done.stderr)
    assert "typer" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_function(name: str) -> None:
    """Every command in the table is a documented function named like its module."""
    module = name.replace("-", "_")
    assert getattr(import_module(f"lfvit_cli.commands.{module}"), module).__doc__


def test_every_command_module_is_in_the_table() -> None:
    """No command file is left out of the help."""
    package = import_module("lfvit_cli.commands")
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in COMMANDS}


def test_version(lfvit: Run) -> None:
    """--version names the installed version."""
    done = lfvit("--version")
    assert done.stdout == f"lfvit {metadata.version('lfvit')}\n"
    assert done.returncode == 0


def test_console_script_is_the_same_program(tmp_path: Path) -> None:
    """The installed script answers like python -m lfvit_cli."""
    script = shutil.which("lfvit", path=Path(sys.executable).parent)
    assert script is not None
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lfvit ")


def test_unknown_command_suggests_near_matches(lfvit: Run) -> None:
    """A mistyped command is bad usage, and the near match is named."""
    done = lfvit("model")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "No such command 'model'. Did you mean 'models'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_option_is_bad_usage(lfvit: Run) -> None:
    """An option that does not exist is bad usage."""
    done = lfvit("--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="bash completion")
def test_completion_offers_commands_and_options(lfvit: Run) -> None:
    """Bash completes command names, and the options of a command."""
    commands = lfvit(_LFVIT_COMPLETE="complete_bash", COMP_WORDS="lfvit ", COMP_CWORD="1")
    assert commands.stdout.split() == list(COMMANDS)
    options = lfvit(_LFVIT_COMPLETE="complete_bash", COMP_WORDS="lfvit models --f", COMP_CWORD="2")
    assert options.stdout.split() == ["--format"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_full_disk_is_one_clear_line(run_python: Run) -> None:
    """An answer that cannot be written for lack of space says so and fails."""
    program = "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.argv = ['lfvit', '--help']"
    done = run_python("-c", f"{program}; from lfvit_cli.app import main; main()")
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device. Free some space, or write elsewhere\n"


def test_reader_that_leaves_is_no_error(run_python: Run) -> None:
    """A closed pipe ends the program without a word."""
    program = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); sys.argv = ['lfvit', '--help']"
    done = run_python("-c", f"{program}; from lfvit_cli.app import main; main()")
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "variable", "kept", "debug"),
    [
        (["bench", "--debug", "-o", "x"], "", ["bench", "-o", "x"], True),
        (["--debug", "bench"], "", ["bench"], True),
        (["bench"], "1", ["bench"], True),
        (["bench"], "0", ["bench"], False),
        (["bench"], "", ["bench"], False),
        (["bench", "--", "--debug"], "", ["bench", "--", "--debug"], False),
    ],
)
def test_debug_is_taken_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str, kept: list[str], debug: bool
) -> None:
    """--debug counts before and after the command but not after --, and LFVIT_DEBUG=1 means the same."""
    monkeypatch.setenv("LFVIT_DEBUG", variable)
    assert _take_debug(arguments) == (kept, debug)
