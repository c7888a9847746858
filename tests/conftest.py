"""What tests of several folders share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import TIMEOUT, Run, run_warm

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch reads it: several tests run at a time


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """Run Python as a person would, in an empty folder; keywords set environment variables."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1", **environment},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def exit_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of CONTRIBUTING as a file: a network of three stages from outside the package."""
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    file = tmp_path_factory.mktemp("outside") / "exit_vit.py"
    file.write_text(page.partition("```python\n")[2].partition("```")[0])
    return file


@pytest.fixture
def lfvit(run_python: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the ``lfvit`` command in an empty folder; keywords set environment variables, of a Python started for it."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        if environment:
            return run_python("-m", "lfvit_cli", *arguments, **environment)
        return run_warm(arguments, tmp_path, tmp_path_factory.mktemp("printed"))

    return run
