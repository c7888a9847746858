"""Files are written whole or not at all."""

import resource
from pathlib import Path

import pytest
from running import Run

from lfvit_cli.errors import UnwritableOutput
from lfvit_cli.files import prepare_folder, save_files, write_bytes, write_text

LIMITED = """
import resource, signal
from pathlib import Path
from lfvit_cli.files import save_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
former, highest = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, highest))
try:
    save_files(Path("."), {"bench.csv": "new", "bench.json": "x" * 2000})
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (former, highest))
"""


def names(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def test_files_arrive_and_nothing_else(tmp_path: Path) -> None:
    """Text and bytes are written as given, old files are replaced, and no temporary file stays."""
    write_text(tmp_path / "bench.md", "old")
    paths = save_files(tmp_path, {"bench.md": "zwölf\n", "plot.png": b"\x89PNG"})
    assert paths == [tmp_path / "bench.md", tmp_path / "plot.png"]
    assert paths[0].read_bytes() == "zwölf\n".encode()
    assert paths[1].read_bytes() == b"\x89PNG"
    assert names(tmp_path) == ["bench.md", "plot.png"]


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    """A result can be read by whoever may read a file that the user makes."""
    write_bytes(tmp_path / "ours", b"")
    (tmp_path / "any").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
def test_a_failed_write_changes_nothing(run_python: Run, tmp_path: Path) -> None:
    """When the second file cannot be written, the first keeps its former content and no half file stays."""
    (tmp_path / "bench.csv").write_text("old")
    done = run_python("-c", LIMITED)
    assert "UnwritableOutput: cannot write to .: File too large" in done.stderr
    assert (tmp_path / "bench.csv").read_text() == "old"
    assert names(tmp_path) == ["bench.csv"]


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    """A new folder is made, left empty, and may exist already."""
    folder = tmp_path / "reports" / "bench"
    assert prepare_folder(folder) == folder
    assert prepare_folder(folder) == folder
    assert names(folder) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path: Path, below: str) -> None:
    """Where a file stands in the way the error names the place and the remedy."""
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(UnwritableOutput, match=r"cannot write to .*reports.*Choose another folder with --output"):
        prepare_folder(tmp_path / "reports" / below)


def test_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    """Saving does not make folders: one that vanished is an error, not a surprise."""
    with pytest.raises(UnwritableOutput, match="No such file or directory"):
        write_text(tmp_path / "gone" / "bench.md", "")
