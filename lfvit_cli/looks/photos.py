"""Which photos a command line names, and which part of a photo a network sees."""

import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.demo import PREFIX, demo_photo
from lfvit_cli.images.folder import IMAGE_SUFFIXES, list_files, list_folder
from lfvit_cli.images.listing import UNLABELLED
from lfvit_cli.images.sampling import sample
from lfvit_cli.images.transforms import TransformSettings

# As in the transform, which cuts the ends off a longer strip before it resizes.
_LONGEST_ASPECT = 32


@dataclass(frozen=True)
class PhotoFiles:
    """Photos in the order named, none twice.

    Attributes:
        files: their paths.
        class_folders: names of the class folders, sorted, where folders of class folders were named.
    """

    files: tuple[Path, ...]
    class_folders: tuple[str, ...]


def find_photos(arguments: Sequence[str]) -> PhotoFiles:
    """Find the photos that files, folders (of images, or of class folders) and patterns such as ``a/*.jpg`` name.

    ``demo:apple.jpg`` is a photo that comes with the package.

    Raises:
        ImagesError: a name leads to nothing.
    """
    files: dict[Path, None] = {}
    class_folders: set[str] = set()
    for argument in arguments:
        for path in _matches(argument):
            if path.is_dir():
                listing = list_folder(path)
                files |= dict.fromkeys(listing.file(index) for index in range(len(listing)))
                class_folders |= set(listing.class_names)
            else:
                files[path] = None
    return PhotoFiles(tuple(files), tuple(sorted(class_folders)))


def _matches(argument: str) -> Iterator[Path]:
    if argument.startswith(PREFIX) and not Path(argument).exists():
        yield demo_photo(argument.removeprefix(PREFIX))
        return
    if Path(argument).exists():
        yield Path(argument)
        return
    if not glob.has_magic(argument):
        raise ImagesError(f"there is no image or folder {argument!r}", "Check the path.")
    # A pattern may be absolute, which Path.glob refuses.
    found = [Path(path) for path in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
    photos = [path for path in found if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES]
    if "**" in argument:
        # The folders on the way were matched too; what they hold is matched by itself.
        photos = [path for path in photos if not path.is_dir()]
    if not photos:
        raise ImagesError(f"no image matches {argument!r}", "Check the pattern.")
    yield from photos


def spread(files: Sequence[Path], labels: Sequence[int | None], limit: int | None) -> tuple[Path, ...]:
    """At most so many photos, as evenly over the classes as their sizes allow, in their order.

    Raises:
        ImagesError: there are none.
    """
    listing = replace(list_files(files), labels=tuple(UNLABELLED if label is None else label for label in labels))
    chosen = listing if limit is None else sample(listing, limit)
    kept = set(chosen.paths)
    return tuple(file for file, path in zip(files, listing.paths, strict=True) if path in kept)


class Frame(NamedTuple):
    """A rectangle in a photo, in pixels from its top left corner."""

    left: float
    top: float
    width: float
    height: float


def crop_frame(width: int, height: int, settings: TransformSettings) -> Frame:
    """The part of an upright photo that the transform keeps: short side resized, long side in proportion, centre cut.

    Args:
        width: of the photo, in pixels.
        height: of the photo, in pixels.
        settings: of the transform.
    """
    short = min(width, height)
    resized_short = math.floor(settings.image_size / settings.crop_pct)
    left, across = _crop(width, short, resized_short, settings.image_size)
    top, down = _crop(height, short, resized_short, settings.image_size)
    return Frame(left, top, across, down)


def _crop(length: int, short: int, resized_short: int, crop: int) -> tuple[float, float]:
    """Where the crop starts along one side of the photo, and how far it reaches."""
    used = min(length, _LONGEST_ASPECT * short)
    cut = (length - used) // 2
    resized = int(resized_short * used / short)
    start = round((resized - crop) / 2)
    scale = used / resized
    return cut + start * scale, crop * scale
