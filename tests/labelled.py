"""Labelled photos for tests: ten classes of crops, each out of one of the photos that come with the package."""

import atexit
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from lfvit_cli.images.demo import demo_photos
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing

CLASSES = 10
PHOTOS_A_CLASS = 30
SHORT_SIDE = 128


def labelled_folder() -> Path:
    """A folder of the splits `test` and `validation`, each of ten class folders."""
    return _made()


def labelled_photos(split: Literal["test", "validation"] = "test") -> Listing:
    """The photos of one split."""
    return list_folder(labelled_folder(), split=split)


def label_names() -> tuple[str, ...]:
    """The ten classes, by index."""
    return labelled_photos().class_names


@cache
def _made() -> Path:
    """Make the folder, once in a process, and remove it at its end."""
    root = Path(tempfile.mkdtemp(prefix="labelled-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    chance, photos = random.Random(0), demo_photos()  # noqa: S311
    for file in (photos.file(index) for index in range(CLASSES)):
        with Image.open(file) as image:
            whole = image.convert("RGB")
        for split in ("test", "validation"):
            folder = root / split / file.stem
            folder.mkdir(parents=True)
            for number in range(PHOTOS_A_CLASS):
                _crop(whole, chance).save(folder / f"{number:02}.jpg", quality=90)
    return root


def _crop(whole: Image.Image, chance: random.Random) -> Image.Image:
    """A part of at least half the width and height, in a shape of its own, 128 pixels on its short side."""
    width, height = (round(side * chance.uniform(0.5, 1)) for side in whole.size)
    left, top = chance.randint(0, whole.width - width), chance.randint(0, whole.height - height)
    scale = SHORT_SIDE / min(width, height)
    size = (round(width * scale), round(height * scale))
    return whole.resize(size, box=(left, top, left + width, top + height))
