"""One image file of any common kind, decoded to an upright 8-bit RGB picture."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lfvit_cli.errors import UnreadableImageError

# Pillow goes by content, not by name: of a photo's formats, none hands the file to another program, as EPS would.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_DEEP_GREY_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_DEEP_GREY_MAXIMUM = 65535


def open_image(path: str | PathLike[str]) -> Image.Image:
    """Decode one image file, without letting a warning of Pillow through.

    The EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to 8 bits, CMYK and palette
    images are converted, and of an animation the first frame is taken.

    Warning filters belong to the whole process: threads call `decode_image` under one `pillow_warnings_ignored`.

    Args:
        path: the image file.

    Returns:
        An upright picture in mode RGB.

    Raises:
        UnreadableImageError: the file is missing, truncated, too large to be a photo, or no image.
    """
    with pillow_warnings_ignored():
        return decode_image(path)


def decode_image(file: str | PathLike[str] | IO[bytes]) -> Image.Image:
    """Do the work of `open_image`, also on an open file, letting the warnings of Pillow pass."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    # Pillow's readers raise whatever a damaged file trips them into: OSError, SyntaxError, struct.error, KeyError, ...
    except Exception as error:
        raise UnreadableImageError(
            f"cannot read the image{_name(file)}: {_reason(error)}",
            "Replace the file by a complete image, or remove it.",
        ) from error


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Silence Pillow (damaged metadata, very large pictures) in this process for the length of a `with` block."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to 8-bit RGB.

    Raises:
        ValueError: its values have no agreed brightness range.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed brightness range")
    if image.mode in _DEEP_GREY_MODES:
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255: Pillow's own conversion clips at 255 instead."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _DEEP_GREY_MAXIMUM:
        raise ValueError("grey values outside 0..65535 have no agreed brightness range")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")


def _name(file: str | PathLike[str] | IO[bytes]) -> str:
    return f" {fspath(file)!r}" if isinstance(file, (str, PathLike)) else ""


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, WebP, BMP, TIFF, GIF or PPM image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).rstrip(".") or type(error).__name__
