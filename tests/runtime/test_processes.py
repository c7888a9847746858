"""Tests of runtime/processes.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lfvit_cli.runtime.processes import Processes, join_processes

PROGRAM = """
import sys
from lfvit_cli.errors import AlreadyTold
from lfvit_cli.runtime.processes import join_processes

here = join_processes()
assert here.count == 2 and here.is_main == (here.index == 0) and here.local_index == here.index
assert here.gather(here.index * 10) == [0, 10]
assert [len(part) for part in here.gather(list(here.share(range(7))))] == [4, 3]
assert here.together(lambda: here.index) == here.index


def fail_from(index):
    if here.index >= index:
        raise OSError(f"no disk in {here.index}")


for first in (0, 1):
    try:
        here.together(lambda: fail_from(first))
    except AlreadyTold:
        told = "elsewhere"
    except OSError as error:
        told = str(error)
    assert told == (f"no disk in {first}" if here.index == first else "elsewhere"), told
print("met", flush=True)
"""


def test_alone() -> None:
    """Without a launcher this process is the main one, has all the work, and tells of its own failures."""
    here = join_processes()
    assert here == Processes(0, 1, 0)
    assert here.is_main
    assert here.share(range(3)) == range(3)
    assert here.gather("x") == ["x"]
    assert here.together(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        here.together(lambda: 1 / 0)


def test_two_real_processes(tmp_path: Path) -> None:
    """Two processes share work without overlap, and of a common failure the first one tells."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("met") == 2
