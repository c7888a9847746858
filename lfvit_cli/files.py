"""Files written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lfvit_cli.errors import UnwritableOutput


def prepare_folder(folder: Path) -> Path:
    """Make a folder for results, with its parents, and try that it can be written to, before the work starts.

    Returns:
        The folder.

    Raises:
        UnwritableOutput: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(_Abandoned), replacing(folder / "probe") as probe:
            probe.write_bytes(b"")
            raise _Abandoned
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all; see :func:`save_files`."""
    save_files(path.parent, {path.name: text})


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see :func:`save_files`."""
    save_files(path.parent, {path.name: content})


def save_files(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write files into an existing folder: none appears before all are safely on disk beside their places.

    Args:
        folder: where the files go.
        files: content by file name, which may begin with sub-folders, made if need be; text is written as UTF-8.

    Returns:
        The paths of the files, in the order given.

    Raises:
        UnwritableOutput: one cannot be written; earlier files of these names are then as they were.
    """
    paths = [folder / name for name in files]
    try:
        with ExitStack() as stack:
            for path, content in zip(paths, files.values(), strict=True):
                if path.parent != folder:
                    path.parent.mkdir(parents=True, exist_ok=True)
                temporary = stack.enter_context(replacing(path))
                temporary.write_bytes(content.encode() if isinstance(content, str) else content)
                _sync(temporary)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return paths


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it is synced to the disk and takes the place of ``path``.

    Nothing is left of it, and ``path`` is as it was, if anything fails within.

    Raises:
        OSError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class _Abandoned(Exception):
    """What was written is not to be kept."""


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _unwritable(folder: Path, error: OSError) -> UnwritableOutput:
    return UnwritableOutput(
        f"cannot write to {folder}: {error.strerror or error}", "Choose another folder with --output, or free this one"
    )
