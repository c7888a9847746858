"""Which part of a photo a network sees: the evaluation transform's crop, in the photo's own pixels."""

import math
from typing import NamedTuple

from lfvit_cli.images.transforms import TransformSettings

# As in the transform, which cuts the ends off a longer strip before it resizes.
_LONGEST_ASPECT = 32


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
