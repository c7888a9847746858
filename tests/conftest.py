"""What tests of several folders share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import Run


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """Run Python as a person would, in an empty folder; keywords set environment variables."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def lfvit(run_python: Run) -> Run:
    """Run the ``lfvit`` command in an empty folder; keywords set environment variables."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_python("-m", "lfvit_cli", *arguments, **environment)

    return run
