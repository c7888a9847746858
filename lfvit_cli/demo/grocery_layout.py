"""Fetching the Grocery Store Dataset, checking every photo, and laying it out as class folders, whole or not at all."""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO
from zipfile import BadZipFile, ZipFile

from lfvit_cli.demo.download import download
from lfvit_cli.demo.grocery import COMMIT, LICENCE, SPLITS, Contents, lacking
from lfvit_cli.errors import ImagesError, UnwritableOutput, first_line
from lfvit_cli.records import Progress

# Shows how far a task is, given its name, as lfvit_cli.console.progress does.
Show = Callable[[str], AbstractContextManager[Progress]]
# Gives the content of a file, by the path that the set has for it.
Readers = Mapping[str, Callable[[], bytes]]

ARCHIVE = "archive.zip"

_SPLIT_NAMES = {"val": "validation", **{split: split for split in SPLITS}}
_HARMLESS = {LICENCE, "classes.csv", ".gitkeep", ".DS_Store"}
_OF_THE_ARCHIVE = f"It has to be the archive of GroceryStoreDataset at commit {COMMIT}, or a folder made from it."


def provide(target: Path, whole: Contents, source: Path | str, show: Show, *, hashed: bool = False) -> list[str]:
    """See to it that a folder holds the whole set: ``SPLIT/CLASS/NAME.jpg``, each class a folder in each split.

    What is fetched, and a layout that is not finished, lie in a hidden folder beside the target until the end. So an
    interrupted download is gone on with, and the target is whole or as it was.

    Args:
        target: the folder.
        whole: what it has to hold.
        source: a web address of the archive; or a copy on disk, of the archive or of the folder.
        show: shows how far each step is.
        hashed: whether photos that are there already are read, too, and compared with their hashes.

    Returns:
        What the target lacked; nothing where it was whole and nothing had to be done.

    Raises:
        ImagesError: the source cannot be had or is not the set, the target holds other files, or another process is
            at work on it.
        UnwritableOutput: the disk is full, or the place cannot be written to.
    """
    target = target.resolve()
    lacked = lacking(target, whole, hashed=hashed)
    if not lacked:
        return lacked
    _require_only_ours(target, whole)
    work = target.parent / f".{target.name}.fetching"
    try:
        with _alone(work, target):
            # Another process may have finished it just now.
            lacked = lacking(target, whole, hashed=hashed)
            if lacked:
                _provide(target, whole, source, show, work)
    except OSError as error:
        raise UnwritableOutput(
            f"cannot write to {target.parent}: {error.strerror or error}",
            f"It takes {2 * whole.size // 10**6 + 1} MB there; or choose another place with --output or LFVIT_DATA.",
        ) from error
    return lacked


def _provide(target: Path, whole: Contents, source: Path | str, show: Show, work: Path) -> None:
    layout, replaced = work / "layout", work / "replaced"
    # What an earlier process has left when it was ended.
    shutil.rmtree(layout, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    archive = work / ARCHIVE
    if isinstance(source, str) and not archive.exists():
        with show("Fetching") as report:
            download(source, archive, report, about=whole.size)
    try:
        with _readers(archive if isinstance(source, str) else source) as readers, show("Checking") as report:
            _lay_out(layout, whole, readers, str(source), report)
    except BaseException as error:
        shutil.rmtree(layout, ignore_errors=True)
        if isinstance(source, str) and isinstance(error, ImagesError):
            # A wrong archive must not stand in the way of a right one.
            archive.unlink(missing_ok=True)
        raise
    if target.exists():
        target.rename(replaced)
    try:
        layout.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(work, ignore_errors=True)


def _lay_out(layout: Path, whole: Contents, readers: Readers, source: str, report: Progress) -> None:
    """Write the class folders and every photo whose content is as published."""
    missing = [path for path in whole.photos if path not in readers]
    if missing:
        raise ImagesError(
            f"{source} lacks {len(missing)} of {len(whole.photos)} photos: {missing[0]}"
            + (", ..." if len(missing) > 1 else ""),
            _OF_THE_ARCHIVE,
        )
    for folder in whole.folders:
        (layout / folder).mkdir(parents=True)
    for done, (path, photo) in enumerate(whole.photos.items(), start=1):
        content = readers[path]()
        if not photo.is_content(content):
            raise ImagesError(f"{path} of {source} is not the published photo: its SHA-256 differs", _OF_THE_ARCHIVE)
        (layout / path).write_bytes(content)
        report(done, len(whole.photos), "photos")
    if LICENCE in readers:
        (layout / LICENCE).write_bytes(readers[LICENCE]())


@contextmanager
def _readers(source: Path) -> Iterator[Readers]:
    """Find the set's files in a copy of the archive or in a folder."""
    if source.is_dir():
        yield _in_folder(source)
        return
    if not source.exists():
        raise ImagesError(f"there is no file or folder {str(source)!r}", "Check the path given with --from.")
    try:
        archive = ZipFile(source)
    except (BadZipFile, OSError) as error:
        raise ImagesError(f"{source} is no readable zip archive: {first_line(error)}", _OF_THE_ARCHIVE) from error
    with archive:
        yield _in_archive(archive)


def _in_folder(folder: Path) -> Readers:
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return {_place(file.relative_to(folder).parts): partial(_read_file, file) for file in files}


def _in_archive(archive: ZipFile) -> Readers:
    readers = {}
    for name in archive.namelist():
        # Files are written by the names of the list alone; an archive that tries is none to take anything from.
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
            raise ImagesError(
                f"the archive {archive.filename} holds a name that leads out of it: {name!r}", _OF_THE_ARCHIVE
            )
        if not name.endswith("/"):
            readers[_place(path.parts)] = partial(_read_member, archive, name)
    return readers


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImagesError(f"{file} cannot be read: {error.strerror}", "Check its permissions.") from error


def _read_member(archive: ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise ImagesError(
            f"{name} cannot be read from {archive.filename}: {first_line(error)}", _OF_THE_ARCHIVE
        ) from error


def _place(parts: tuple[str, ...]) -> str:
    """Where the set has a file of the archive, of an unpacked archive or of a laid-out folder.

    The archive holds ``ROOT/dataset/val/Fruit/Apple/Pink-Lady/Pink-Lady_001.jpg``, some classes without the coarse
    one above them: the set has it as ``validation/Pink-Lady/Pink-Lady_001.jpg``.
    """
    split = next((_SPLIT_NAMES[part] for part in parts[:-2] if part in _SPLIT_NAMES), None)
    if split is not None:
        return f"{split}/{parts[-2]}/{parts[-1]}"
    return parts[-1] if len(parts) <= 2 else "/".join(parts)


def _require_only_ours(target: Path, whole: Contents) -> None:
    """Refuse a target that holds anything but files of the set, since it will be replaced."""
    if target.exists() and not target.is_dir():
        raise ImagesError(f"{str(target)!r} is a file, not a folder", "Choose another place with --output.")
    for parent, folders, names in os.walk(target):
        place = Path(parent).relative_to(target)
        links = (name for name in folders if Path(parent, name).is_symlink())
        for name in (*links, *names):
            if name not in _HARMLESS and (place / name).as_posix() not in whole.photos:
                raise ImagesError(
                    f"{str(target)!r} holds other files, such as {str(place / name)!r}",
                    "Choose a new or an empty folder with --output.",
                )


@contextmanager
def _alone(work: Path, target: Path) -> Iterator[None]:
    """Make the working folder, and keep every other process out of it; the system lets go when this one ends."""
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            lock = (work / "lock").open("a+")
        except FileNotFoundError:
            continue  # removed in between, by a process that was done
        with lock:
            if not _taken(lock):
                lock.seek(0)
                raise ImagesError(
                    f"process {lock.read().strip() or '?'} is fetching the same photos to {str(target)!r}",
                    "Wait until it is done, or end it.",
                )
            if not _is_still(lock, work / "lock"):
                continue
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            try:
                yield
            finally:
                if not any(file.stat().st_size for file in work.glob(f"{ARCHIVE}*")):
                    shutil.rmtree(work, ignore_errors=True)
            return


def _taken(lock: IO[str]) -> bool:
    """Lock a file, unless another process has it locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_still(lock: IO[str], file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except FileNotFoundError:
        return False
