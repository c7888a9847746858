"""`lfvit data grocery`, as a person at a terminal meets it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_grocery import Site, made_archive, made_list, serving
from running import Run

from lfvit_cli.app import main
from lfvit_cli.console.progress import progress
from lfvit_cli.demo import grocery
from lfvit_cli.demo.grocery_layout import provide

Data = Callable[..., subprocess.CompletedProcess[str]]

START = """
import atexit, resource, sys
from pathlib import Path
from lfvit_cli.demo import grocery
grocery.LIST = Path(sys.argv[1])
if int(sys.argv[2]):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, before)  # what measures coverage writes then
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), before[1]))
sys.argv = ["lfvit", *sys.argv[3:]]
from lfvit_cli.app import main
main()
"""


@pytest.fixture
def lfvit_here(run_python: Run, tmp_path: Path) -> Data:
    """Run lfvit with the list of the made set, and data sets in `sets`; `most` limits the bytes of a file."""
    listed = made_list(tmp_path / "list.txt")

    def run(*arguments: str, most: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        places = {"LFVIT_DATA": str(tmp_path / "sets"), **environment}
        return run_python("-c", START, str(listed), str(most), *arguments, **places)

    return run


def test_fetched_and_then_complete(lfvit_here: Data, tmp_path: Path) -> None:
    """The first run fetches; the second says that all is there, and both print what."""
    with serving(Site(made_archive(tmp_path / "archive.zip").read_bytes())) as site:
        first = lfvit_here("data", "grocery", "--format", "json", LFVIT_GROCERY_URL=site.url)
        second = lfvit_here("data", "grocery", "--verify", "--format", "json", LFVIT_GROCERY_URL=site.url)
    folder = tmp_path / "sets" / "grocery"
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert json.loads(first.stdout) == {
        "name": "grocery",
        "folder": str(folder),
        "photos": {"train": 7, "validation": 2, "test": 4},
        "classes": ["Banana", "Oat-Milk", "Pink-Lady"],
    }
    assert second.stdout == first.stdout
    assert "Fetching: " in first.stderr
    assert "Checking: 13/13 photos\n" in first.stderr
    assert f"written to {folder}\n" in first.stderr
    assert second.stderr == f"complete already: {folder}\n"
    assert len(site.asked) == 1


def test_a_copy_is_taken_from_disk_and_put_elsewhere(lfvit_here: Data, tmp_path: Path) -> None:
    """--from and -o; the table counts the photos, and a repair names what it mended."""
    made_archive(tmp_path / "archive.zip")
    done = lfvit_here("data", "grocery", "--from", "archive.zip", "-o", "photos")
    assert done.returncode == 0, done.stderr
    assert "grocery, 3 classes" in done.stdout
    assert ["validation", "2", "2"] in [line.split() for line in done.stdout.splitlines()]
    assert (tmp_path / "photos" / "test" / "Banana" / "Banana_001.jpg").exists()
    (tmp_path / "photos" / "test" / "Banana" / "Banana_001.jpg").unlink()
    mended = lfvit_here("data", "grocery", "--from", "archive.zip", "-o", "photos")
    assert "1 were missing or not as published" in mended.stderr
    assert (tmp_path / "photos" / "test" / "Banana" / "Banana_001.jpg").exists()


def test_no_network_is_one_line(lfvit_here: Data, tmp_path: Path) -> None:
    """It names --from; nothing is on standard output, and no half of a set on disk."""
    done = lfvit_here("data", "grocery", LFVIT_GROCERY_URL="http://127.0.0.1:9/grocery.zip")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: 127.0.0.1:9 cannot be reached: Connection refused. ")
    assert done.stderr.count("\n") == 1
    assert "--from" in done.stderr
    assert not list((tmp_path / "sets").iterdir())


@pytest.mark.parametrize("most", [100_000, 20_000], ids=["archive", "photos"])
def test_a_full_disk_is_one_line(lfvit_here: Data, tmp_path: Path, most: int) -> None:
    """While fetching, and while laying out; later, with room, the same command does it."""
    archive = made_archive(tmp_path / "archive.zip")
    with serving(Site(archive.read_bytes())) as site:
        arguments = ["data", "grocery", *(["--url", site.url] if most == 100_000 else ["--from", str(archive)])]
        done = lfvit_here(*arguments, most=most)
        assert (done.returncode, done.stdout) == (1, "")
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"error: cannot write to {tmp_path / 'sets'}: File too large. It takes ")
        assert not (tmp_path / "sets" / "grocery").exists()
        again = lfvit_here(*arguments)
    assert again.returncode == 0, again.stderr
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["grocery"]


@pytest.mark.parametrize("arguments", [("data",), ("data", "imagenet")])
def test_other_names_are_bad_usage(lfvit_here: Data, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and the name that there is."""
    done = lfvit_here(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.fixture
def lfvit_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run an lfvit that fails in this process, which may have the libraries already; gives its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LFVIT_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(grocery, "LIST", made_list(tmp_path / "list.txt"))

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lfvit", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "deit_tiny_patch16_224"),
        ("bench", "deit_tiny_patch16_224"),
        ("train", "deit_tiny_patch16_224"),
        ("sweep-threshold", "lf_deit_small"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_other_commands_name_the_remedy(lfvit_in_this_process: Callable[..., str], arguments: tuple[str, ...]) -> None:
    """--data grocery, where the photos are not fetched, says how to fetch them."""
    told = lfvit_in_this_process(*arguments, "--data", "grocery")
    assert told.splitlines()[-1].endswith("Fetch them: lfvit data grocery.")


def test_other_commands_read_the_fetched_photos(lfvit_in_this_process: Callable[..., str], tmp_path: Path) -> None:
    """Evaluate finds the folder: that the made photos are no pictures is what it then says."""
    provide(grocery.data_folder() / "grocery", grocery.contents(), made_archive(tmp_path / "a.zip"), progress)
    arguments = ("evaluate", "deit_tiny_patch16_224", "--split", "test", "--workers", "0", "--data", "grocery")
    assert "Banana_001.jpg" in lfvit_in_this_process(*arguments)
