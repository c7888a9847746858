"""Files written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from lfvit_cli.results.errors import UnwritableOutput


def prepare_folder(folder: Path) -> Path:
    """Make a folder for results, with its parents, and try that it can be written to, before the work starts.

    Returns:
        The folder.

    Raises:
        UnwritableOutput: Where it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_beside(folder / "probe", b"").unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all; see ``save_files``."""
    save_files(path.parent, {path.name: text})


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see ``save_files``."""
    save_files(path.parent, {path.name: content})


def save_files(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write files into an existing folder: none appears before all are safely on disk beside their places.

    Args:
        folder: Where the files go.
        files: Content by file name; text is written as UTF-8.

    Returns:
        The paths of the files, in the order given.

    Raises:
        UnwritableOutput: Where one cannot be written; earlier files of these names are then as they were.
    """
    paths = [folder / name for name in files]
    written: list[Path] = []
    try:
        for path, content in zip(paths, files.values(), strict=True):
            written.append(_write_beside(path, content.encode() if isinstance(content, str) else content))
        for temporary, path in zip(written, paths, strict=True):
            temporary.replace(path)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)
    return paths


def _write_beside(path: Path, content: bytes) -> Path:
    """Write a temporary file in the folder of a path, down to the disk, and return where it is."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return temporary


def _unwritable(folder: Path, error: OSError) -> UnwritableOutput:
    return UnwritableOutput(
        f"cannot write to {folder}: {error.strerror or error}", "Choose another folder with --output, or free this one"
    )
