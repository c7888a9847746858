"""Methods from outside: files and modules named by ``--import``, and installed packages' entry points."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

import lfvit_cli.networks  # noqa: F401  # the built-in methods, whose names no other may take
from lfvit_cli.errors import NetworkError, first_line

GROUP = "lfvit.methods"
_REMEDY = "Name a Python file, or a module that Python can import."


def load_methods(sources: Iterable[str]) -> dict[str, str]:
    """Import methods from outside, each once in a process; those of installed packages as well.

    Args:
        sources: files or modules, as the user names them.

    Returns:
        The SHA-256 of each source's file, by its name as given, or by the entry point's.

    Raises:
        NetworkError: a source is missing, or cannot be imported.
    """
    points = sorted(metadata.entry_points(group=GROUP))
    modules = {point.name: _imported(point.value.partition(":")[0], f"the plug-in {point.name!r}") for point in points}
    modules |= {source: _load(source) for source in sources}
    return {source: _sha256(module) for source, module in modules.items()}


def _load(source: str) -> ModuleType:
    path = Path(source).expanduser()
    if path.suffix == ".py" or path.is_file():
        return _load_file(path, source)
    if path.is_dir() and (path / "__init__.py").is_file():
        return _load_file(path / "__init__.py", source)
    return _imported(source, source)


def _load_file(path: Path, source: str) -> ModuleType:
    if not path.is_file():
        raise NetworkError(f"there is no file {source} to import", _REMEDY)
    path = path.resolve()
    folder = path.parent if path.name == "__init__.py" else None
    name = f"lfvit_imported_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=None if folder is None else [str(folder)]
    )
    if spec is None or spec.loader is None:
        raise NetworkError(f"{source} is not a Python file", _REMEDY)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _failed(source, error) from error
    return module


def _imported(module: str, source: str) -> ModuleType:
    try:
        return import_module(module)
    except BaseException as error:
        raise _failed(source, error) from error


def _failed(source: str, error: BaseException) -> BaseException:
    """What anybody's code raises while it is imported, as one line; an interrupt passes."""
    if isinstance(error, KeyboardInterrupt):
        return error
    return NetworkError(
        f"{source} cannot be imported: {type(error).__name__}: {first_line(error)}",
        "Correct it; --debug shows where it fails.",
    )


def _sha256(module: ModuleType) -> str:
    file = module.__file__
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()
