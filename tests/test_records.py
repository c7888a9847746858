"""No record without its circumstances."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from pydantic import ValidationError
from running import Run

import lfvit_cli
from lfvit_cli.records import Facts, Record, capture_environment, command_line, now

COMMIT = "import json; from lfvit_cli.records import capture_environment as c; e = c(); print(e.commit, e.modified)"


class Settings(Facts):
    """Settings of a record that only this test knows."""

    batch_size: int


class Sample(Record):
    """A record that only this test knows."""

    kind: Literal["sample"] = "sample"
    schema_version: Literal[1] = 1
    settings: Settings


def circumstances() -> dict[str, Any]:
    """Return all that a record needs."""
    return {
        "created": now(),
        "command": command_line(),
        "environment": capture_environment(),
        "settings": Settings(batch_size=32),
        "warnings": (),
    }


def test_a_record_survives_storage() -> None:
    """A record read back from its JSON is the same record."""
    record = Sample(**circumstances())
    assert Sample.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("missing", ["created", "command", "environment", "settings", "warnings"])
def test_no_record_without_its_circumstances(missing: str) -> None:
    """A record that lacks any of its circumstances cannot be built."""
    given = {name: value for name, value in circumstances().items() if name != missing}
    with pytest.raises(ValidationError, match="Field required"):
        Sample(**given)


def test_a_record_takes_nothing_else_and_stays_as_it_is() -> None:
    """Unknown fields and later changes are refused."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Sample.model_validate({**circumstances(), "mood": "good"})
    record = Sample(**circumstances())
    with pytest.raises(ValidationError, match="frozen"):
        record.kind = "other"  # type: ignore[misc, assignment]


def test_time_is_utc() -> None:
    """A moment with a zone is kept in UTC; one without is refused."""
    summer = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    record = Sample(**{**circumstances(), "created": summer})
    assert '"created":"2026-07-01T10:00:00Z"' in record.model_dump_json()
    assert now().tzinfo is UTC
    with pytest.raises(ValidationError, match="timezone"):
        Sample(**{**circumstances(), "created": datetime(2026, 7, 1)})


def test_the_command_is_kept_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program by name, its arguments untouched."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/lfvit", "bench", "-o", "~/out"])
    assert command_line() == ("lfvit", "bench", "-o", "~/out")
    monkeypatch.setattr(sys, "argv", ["/somewhere/lfvit_cli/__main__.py", "bench"])
    assert command_line() == ("lfvit", "bench")


def test_the_environment_of_this_machine() -> None:
    """The machine and the versions are the real ones."""
    environment = capture_environment()
    assert environment.python.split(".") == [str(part) for part in sys.version_info[:3]]
    assert environment.memory_bytes == psutil.virtual_memory().total
    assert environment.logical_cores == psutil.cpu_count()
    assert environment.cpu
    assert all(environment.packages.values())
    assert environment.device is None


def test_torch_is_imported_only_for_a_device(run_python: Run) -> None:
    """Without a device the circumstances are told without importing torch; with one, its threads are told."""
    program = """
import sys
from lfvit_cli.records import capture_environment
capture_environment()
assert not {"torch", "timm", "numpy", "fvcore"} & set(sys.modules)
device = capture_environment("cpu").device
print(device.device, device.threads, device.driver)
"""
    done = run_python("-c", program)
    assert done.stderr == ""
    assert done.stdout == "cpu 1 None\n"


def test_commit_of_a_checkout(run_python: Run, tmp_path: Path) -> None:
    """In a checkout the commit is told, and whether the package differs from it."""
    source = Path(lfvit_cli.__file__).parent
    shutil.copytree(source, tmp_path / "lfvit_cli", ignore=shutil.ignore_patterns("demo", "__pycache__"))
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "--quiet")
    assert run_python("-c", COMMIT).stdout == "None None\n"
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert run_python("-c", COMMIT).stdout == f"{commit} False\n"
    (tmp_path / "lfvit_cli" / "notes.txt").touch()
    assert run_python("-c", COMMIT).stdout == f"{commit} True\n"


def test_no_commit_without_git(run_python: Run) -> None:
    """Where git is not installed there is no commit, and no error."""
    done = run_python("-c", COMMIT, PATH="")
    assert (done.stdout, done.stderr) == ("None None\n", "")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
