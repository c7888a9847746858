"""What the classes of a network are called, and which of them a photo's folder names."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfvit_cli.demo.grocery import contents
from lfvit_cli.errors import MeasureError
from lfvit_cli.looks.photos import PhotoFiles

# A safetensors header may name the classes, as a JSON list of their names by index.
HEADER_KEY = "class_names"
IMAGENET_CLASSES = 1000
_FORMATS = "Give one name a line, or JSON: a list of names, {index: name} or {index: [folder, name]}"


@dataclass(frozen=True)
class ClassNames:
    """Names by index.

    Attributes:
        names: for people.
        folders: class index by the name of its folder.
    """

    names: tuple[str, ...]
    folders: Mapping[str, int]

    def label_of(self, image: Path) -> int | None:
        """The class that the nearest folder above an image names, None where none does."""
        above = (parent.name for parent in image.absolute().parents)
        return next((self.folders[name] for name in above if name in self.folders), None)


def name_classes(
    count: int,
    file: Path | None = None,
    header: Mapping[str, str] | None = None,
    photos: PhotoFiles | None = None,
) -> ClassNames:
    """Name the classes of a network from the first of: a file, its checkpoint, the photos' folders, ImageNet, numbers.

    Args:
        count: of the network's classes, K.
        file: one name a line, or JSON.
        header: of the checkpoint's safetensors file.
        photos: used where they lie in K class folders, or in some of the grocery photos'.

    Raises:
        MeasureError: the file cannot be read, or has another number of names.
    """
    class_folders = _class_folders(count, photos) if photos else ()
    by_folder = {name: index for index, name in enumerate(class_folders)}
    if file is not None:
        folders, names = _read(file)
        if len(names) != count:
            problem = f"{str(file)!r} has {len(names)} class names, and the network {count} classes"
            raise MeasureError(problem, f"{_FORMATS}.")
    elif in_header := _header_names(header or {}, count):
        folders, names = in_header, in_header
    elif class_folders:
        folders, names = class_folders, class_folders
    elif count == IMAGENET_CLASSES:
        folders, names = _imagenet()
    else:
        folders, names = (), tuple(f"class {index}" for index in range(count))
    return ClassNames(names, {**by_folder, **{folder: index for index, folder in enumerate(folders)}})


def _class_folders(count: int, photos: PhotoFiles) -> tuple[str, ...]:
    """The names of K class folders, by index."""
    if len(photos.class_folders) == count:
        return photos.class_folders
    groceries = tuple(contents().classes)
    known = {file.absolute().parent.name for file in photos.files} <= set(groceries)
    return groceries if known and len(groceries) == count else ()


def _header_names(header: Mapping[str, str], count: int) -> tuple[str, ...]:
    try:
        names = json.loads(header.get(HEADER_KEY, "null"))
    except ValueError:
        return ()
    return tuple(map(str, names)) if isinstance(names, list) and len(names) == count else ()


def _read(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Folders and names by index; of a file that knows only one of them, the same."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() != ".json":
            names = tuple(line.strip() for line in text.rstrip().splitlines())
            return names, names
        return _from_json(json.loads(text))
    except OSError as error:
        raise MeasureError(f"cannot read the class names {str(file)!r}: {error.strerror}", f"{_FORMATS}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise MeasureError(f"{str(file)!r} holds no class names", f"{_FORMATS}.") from error


def _from_json(document: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(document, dict):
        if all(isinstance(value, int) for value in document.values()):
            document = {index: name for name, index in document.items()}
        entries = {int(index): entry for index, entry in document.items()}
        document = [entries[index] for index in range(len(entries))]
    pairs = [entry if isinstance(entry, list) else [entry, entry] for entry in document]
    if not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
        raise ValueError("neither names nor pairs")
    return tuple(folder for folder, _ in pairs), tuple(name for _, name in pairs)


def _imagenet() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet ids, and the first of each class's synonyms unless two classes share it."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    synonyms = info.label_descriptions()
    first = [text.partition(",")[0] for text in synonyms]
    times = Counter(first)
    names = (short if times[short] == 1 else text for short, text in zip(first, synonyms, strict=True))
    return tuple(info.label_names()), tuple(names)
