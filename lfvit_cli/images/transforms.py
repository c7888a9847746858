"""From a decoded picture to the tensor that a network was trained to see."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, PositiveInt
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch import Tensor

from lfvit_cli.errors import ImagesError

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Transform = Callable[[Image.Image], Tensor]
_LONGEST_ASPECT = 32


class TransformSettings(BaseModel):
    """How a picture is resized, cropped and normalised for evaluation.

    Attributes:
        image_size: side of the square crop in pixels.
        crop_pct: side of the crop over the short side of the resized picture.
        interpolation: the resampling of the resize.
        mean: subtracted from each channel, on the scale 0..1.
        std: divides each channel, on the scale 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: PositiveInt = 224
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 0.875
    interpolation: Interpolation = "bicubic"
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = IMAGENET_DEFAULT_MEAN
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_DEFAULT_STD

    @property
    def sha256(self) -> str:
        """Hash of all settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def build_transform(settings: TransformSettings) -> Transform:
    """Resize the short side, crop the centre, normalise: RGB picture -> float32 (3, S, S)."""
    return _evaluation_transform(settings, normalised=True)


def build_pixel_transform(settings: TransformSettings) -> Transform:
    """Resize the short side and crop the centre only: RGB picture -> uint8 (3, S, S), for `normalise`."""
    return _evaluation_transform(settings, normalised=False)


def normalise(
    pixels: Tensor,
    settings: TransformSettings,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Move a uint8 batch to the device, and finish there what `build_pixel_transform` left out.

    Args:
        pixels: uint8 (B, 3, S, S).
        settings: the settings that the pixels were prepared with.
        dtype: of the result; the arithmetic is done in float32.
        device: where the result goes; by default where the pixels are.

    Returns:
        The normalised batch (B, 3, S, S), equal to `build_transform` up to float rounding.

    Raises:
        ImagesError: the pixels are not uint8.
    """
    if pixels.dtype != torch.uint8:
        raise ImagesError(f"pixels of type {pixels.dtype} cannot be normalised", "Pass the uint8 pixels.")
    # Bytes travel to the device: a quarter of what float32 would take.
    moved = pixels.to(device or pixels.device, non_blocking=True)
    mean, std = (torch.tensor(values, device=moved.device).view(3, 1, 1) for values in (settings.mean, settings.std))
    return moved.to(torch.float32).div_(255).sub_(mean).div_(std).to(dtype)


def _evaluation_transform(settings: TransformSettings, *, normalised: bool) -> Transform:
    steps = create_transform(
        input_size=(3, settings.image_size, settings.image_size),
        is_training=False,
        interpolation=settings.interpolation,
        mean=settings.mean,
        std=settings.std,
        crop_pct=settings.crop_pct,
        normalize=normalised,
    )
    steps.transforms.insert(0, _shorten)
    transform: Transform = steps
    return transform


def _shorten(image: Image.Image) -> Image.Image:
    """Cut the ends off a strip that the resize would blow up to gigabytes; the centre crop drops them anyway."""
    longest = _LONGEST_ASPECT * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
