"""Folders of class folders, and flat folders, listed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.classes import class_names_by_index, read_class_map
from lfvit_cli.images.listing import UNLABELLED, Listing

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
_SPLITS = ("val", "validation", "test", "train")


def list_folder(data: Path, *, split: str | None = None, class_map: Path | None = None) -> Listing:
    """List a folder of class folders, or a flat folder of images.

    Labels are the ranks of the class folders' sorted names, or what the class map says. A flat folder's images are
    unlabelled. Hidden files and folders are skipped; a link to a missing file stays, to be counted as unreadable.

    Args:
        data: the folder, or the folder of its splits.
        split: the sub-folder to take; by default `val` or `validation` where there is one, else `data` itself.
        class_map: a text file with one class folder a line, or JSON `{class folder: index}`.

    Returns:
        The images, sorted by relative path.

    Raises:
        ImagesError: the folder is missing, no folder, empty or ambiguous, or does not fit the class map.
    """
    root = _split_folder(data, split)
    folders, loose_images = _contents(root)
    images = {folder: list(_walk(root, folder)) for folder in folders}
    filled = [folder for folder in folders if images[folder]]
    _require_one_kind(root, filled, loose_images)
    class_to_idx = read_class_map(class_map) if class_map is not None else {}
    if not filled:
        return _listing(root, dict.fromkeys(loose_images, UNLABELLED), class_names_by_index(class_to_idx))
    if class_map is None:
        # A class folder without images keeps its index, so that a partial copy is labelled as the whole.
        class_to_idx = {name: index for index, name in enumerate(folders)}
    _require_known(filled, class_to_idx, class_map)
    labels = {path: class_to_idx[folder] for folder in filled for path in images[folder]}
    return _listing(root, labels, class_names_by_index(class_to_idx))


def list_files(paths: Sequence[Path]) -> Listing:
    """List single image files, unlabelled, in the order given, relative to the folder they share.

    Raises:
        ImagesError: no path is given.
    """
    if not paths:
        raise ImagesError("no image files are given", "Name at least one image.")
    files = [path.absolute() for path in paths]
    root = Path(os.path.commonpath([file.parent for file in files]))
    relative = tuple(file.relative_to(root).as_posix() for file in files)
    return Listing(root, relative, tuple(map(_size, files)), (UNLABELLED,) * len(files), ())


def _split_folder(data: Path, split: str | None) -> Path:
    _require_folder(data)
    folders, _ = _contents(data)
    if split is not None:
        if not (data / split).is_dir():
            raise ImagesError(
                f"{str(data)!r} has no split {split!r}",
                f"Its folders are: {', '.join(folders[:10]) or 'none'}.",
            )
        return data / split
    for name in _SPLITS[:2]:
        if name in folders:
            return data / name
    if folders and set(folders) <= set(_SPLITS):
        raise ImagesError(
            f"{str(data)!r} holds the splits {', '.join(folders)}, and none of them is val or validation",
            f"Choose one, e.g. --split {folders[0]}.",
        )
    return data


def _require_folder(data: Path) -> None:
    if not data.exists():
        raise ImagesError(f"there is no folder {str(data)!r}", "Check the path to the images.")
    if not data.is_dir():
        raise ImagesError(f"{str(data)!r} is a file, not a folder", "Name the folder that holds the images.")


def _require_one_kind(root: Path, class_folders: Sequence[str], loose_images: Sequence[str]) -> None:
    if class_folders and loose_images:
        raise ImagesError(
            f"{str(root)!r} holds both class folders ({class_folders[0]!r}, ...) and images ({loose_images[0]!r}, ...)",
            "Move the images into class folders, or name a folder that holds only one of the two.",
        )
    if not class_folders and not loose_images:
        raise ImagesError(
            f"there are no images in {str(root)!r}",
            f"Name a folder of class folders or of images ({', '.join(sorted(IMAGE_SUFFIXES))}).",
        )


def _require_known(folders: Sequence[str], class_to_idx: Mapping[str, int], class_map: Path | None) -> None:
    unknown = [folder for folder in folders if folder not in class_to_idx]
    if unknown:
        raise ImagesError(
            f"{len(unknown)} class folder(s) are not in the class map {str(class_map)!r}: {', '.join(unknown[:5])}",
            "Add them to the class map, or name the class map that belongs to these folders.",
        )


def _contents(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the visible sub-folders, and of the images, each sorted."""
    _, folders, files = next(os.walk(folder, onerror=_refuse), (None, [], []))
    return sorted(name for name in folders if not name.startswith(".")), sorted(filter(_is_image, files))


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Images at any depth below `root/folder`, as POSIX paths relative to `root`."""
    seen: set[Path] = set()
    for parent, folders, files in os.walk(root / folder, onerror=_refuse, followlinks=True):
        # A link may lead back to a folder that holds it: nothing is listed twice.
        place = Path(parent).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = Path(parent).relative_to(root)
        yield from ((prefix / name).as_posix() for name in files if _is_image(name))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _refuse(error: OSError) -> None:
    raise ImagesError(f"cannot list {error.filename!r}: {error.strerror}", "Check its permissions.") from error


def _listing(root: Path, labels: Mapping[str, int], class_names: tuple[str, ...]) -> Listing:
    paths = tuple(sorted(labels))
    sizes = tuple(_size(root / path) for path in paths)
    return Listing(root, paths, sizes, tuple(labels[path] for path in paths), class_names)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
