"""Class maps: which class folder has which index."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from lfvit_cli.errors import ImagesError

_FORMATS = "Give a text file with one class folder a line, or a .json file {class folder: index}, each index once."
_MOST_CLASSES = 1_000_000
_JSON_MAP = TypeAdapter(dict[str, NonNegativeInt])


def read_class_map(path: Path) -> dict[str, int]:
    """Read a class map: a text file whose line numbers from 0 are the indexes (as timm has it), or JSON.

    Returns:
        The index of every class folder.

    Raises:
        ImagesError: the file is missing, empty, malformed, or names a class or an index twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImagesError(f"cannot read the class map {str(path)!r}: {error}", _FORMATS) from error
    pairs = _json_pairs(path, text) if path.suffix.lower() == ".json" else _text_pairs(text)
    class_to_idx = dict(pairs)
    if not all(class_to_idx):
        raise ImagesError(f"the class map {str(path)!r} has a class without a name", _FORMATS)
    if not pairs:
        raise ImagesError(f"the class map {str(path)!r} is empty", _FORMATS)
    if len(class_to_idx) < len(pairs) or len(set(class_to_idx.values())) < len(pairs):
        raise ImagesError(f"the class map {str(path)!r} names a class or an index twice", _FORMATS)
    if max(class_to_idx.values()) >= _MOST_CLASSES:
        raise ImagesError(f"the class map {str(path)!r} has an index of {_MOST_CLASSES} or more", _FORMATS)
    return class_to_idx


def class_names_by_index(class_to_idx: Mapping[str, int]) -> tuple[str, ...]:
    """Name every index up to the largest; an index that no class has is named by its number."""
    names = {index: name for name, index in class_to_idx.items()}
    return tuple(names.get(index, str(index)) for index in range(max(names, default=-1) + 1))


def _text_pairs(text: str) -> list[tuple[str, int]]:
    return [(line.strip(), index) for index, line in enumerate(text.rstrip().splitlines())]


def _json_pairs(path: Path, text: str) -> list[tuple[str, int]]:
    try:
        # The pairs are kept as a list, because a dict would swallow a class named twice.
        pairs = json.loads(text, object_pairs_hook=list)
        _JSON_MAP.validate_python(dict(pairs), strict=True)
    except (TypeError, ValueError, ValidationError) as error:
        raise ImagesError(f"the class map {str(path)!r} is not a JSON object of indexes by class", _FORMATS) from error
    return [(name, index) for name, index in pairs]
