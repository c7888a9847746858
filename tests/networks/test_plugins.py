"""Tests of networks/plugins.py: methods from outside."""

import hashlib
from pathlib import Path

import pytest
import timm
from running import Run

from lfvit_cli.errors import NetworkError
from lfvit_cli.networks.plugins import load_methods

FILE = '''
from timm.models import register_model

LOADED = []
LOADED.append(1)

@register_model
def {name}(pretrained=False, **keywords):
    """One."""
'''


def test_a_file_is_loaded_once_and_hashed(tmp_path: Path) -> None:
    """Named twice, it registers its networks once; the hash is the file's."""
    file = tmp_path / "my method.py"
    file.write_text(FILE.format(name="from_a_file"))
    first, again = load_methods([str(file)]), load_methods([str(file), str(file)])
    assert first == again == {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}
    assert timm.is_model("from_a_file")


def test_a_package_may_be_a_folder(tmp_path: Path) -> None:
    """Its modules find each other."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import VALUE\n")
    (package / "inner.py").write_text("VALUE = 3\n")
    assert list(load_methods([str(package)])) == [str(package)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError"),
        ("def (", "cannot be imported: SyntaxError"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
    ],
)
def test_what_cannot_be_imported_is_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    """With the file named."""
    file = tmp_path / "broken.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(NetworkError, match=words) as refusal:
        load_methods([str(file)])
    assert "broken.py" in refusal.value.problem
    assert "\n" not in str(refusal.value)


def test_an_unknown_module_is_named() -> None:
    """As a module."""
    with pytest.raises(NetworkError, match="no_such_module_here cannot be imported"):
        load_methods(["no_such_module_here"])


def test_installed_packages_add_methods_by_an_entry_point(run_python: Run, tmp_path: Path) -> None:
    """A distribution whose metadata names a module: it is imported without being asked for."""
    (tmp_path / "plug_in.py").write_text(FILE.format(name="from_a_plug_in"))
    metadata = tmp_path / "plug_in-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lfvit.methods]\nplug = plug_in\n")
    program = (
        "import timm; from lfvit_cli.networks.plugins import load_methods; found = load_methods([]);"
        "assert list(found) == ['plug'] and timm.is_model('from_a_plug_in'), found"
    )
    run = run_python("-c", program, PYTHONPATH=str(tmp_path))
    assert run.returncode == 0, run.stderr
