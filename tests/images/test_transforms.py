"""Tests of images/transforms.py."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from timm.data import create_transform

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform, build_transform, normalise


def test_resize_and_crop_are_those_of_the_papers(photo: Image.Image) -> None:
    """224 pixels at 0.875: short side to 256, bicubic, centre crop."""
    photo = photo.resize((500, 300))
    height, width = 256, 500 * 256 // 300
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    expected = photo.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    pixels = build_pixel_transform(TransformSettings())(photo)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 224, 224))
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize(("image_size", "crop_pct", "resized"), [(224, 0.875, 256), (288, 0.875, 329), (224, 0.9, 248)])
def test_short_side_is_rounded_down(image_size: int, crop_pct: float, resized: int) -> None:
    """The short side becomes int(image_size / crop_pct): a picture of just that size is only cropped."""
    noise = np.random.default_rng(0).integers(0, 256, (resized, resized, 3), np.uint8)
    start = round((resized - image_size) / 2)
    pixels = build_pixel_transform(TransformSettings(image_size=image_size, crop_pct=crop_pct))(Image.fromarray(noise))
    expected = noise[start : start + image_size, start : start + image_size]
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_float_route_is_timm(photo: Image.Image) -> None:
    """A photo is prepared exactly as timm prepares it for evaluation."""
    settings = TransformSettings(image_size=160, crop_pct=0.9, interpolation="bilinear", mean=(0.5, 0.4, 0.3))
    timm_transform = create_transform((3, 160, 160), interpolation="bilinear", crop_pct=0.9, mean=(0.5, 0.4, 0.3))
    torch.testing.assert_close(build_transform(settings)(photo), timm_transform(photo), rtol=0, atol=0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"])
def test_both_routes_agree(photo: Image.Image, interpolation: str) -> None:
    """Bytes normalised later are the floats normalised at once, up to rounding, for every interpolation."""
    settings = TransformSettings.model_validate({"image_size": 96, "interpolation": interpolation})
    late = normalise(build_pixel_transform(settings)(photo)[None], settings)
    torch.testing.assert_close(late[0], build_transform(settings)(photo), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_normalise_rounds_once(dtype: torch.dtype) -> None:
    """Lower precision is float32 arithmetic rounded at the end, and the bytes stay as they were."""
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    before = pixels.clone()
    exact = normalise(pixels, TransformSettings())
    result = normalise(pixels, TransformSettings(), dtype=dtype, device="cpu")
    assert result.dtype == dtype
    torch.testing.assert_close(result, exact.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(pixels, before)


def test_normalise_refuses_floats() -> None:
    """Pixels that have been normalised already are not normalised again."""
    with pytest.raises(ImagesError, match="float32"):
        normalise(torch.zeros(1, 3, 8, 8), TransformSettings())


@hypothesis_settings(deadline=None, max_examples=40)
@given(width=st.integers(1, 400), height=st.integers(1, 400), image_size=st.integers(1, 64))
def test_any_picture_becomes_a_square(width: int, height: int, image_size: int) -> None:
    """Whatever a picture's size, its crop is image_size by image_size, and a plain colour stays plain."""
    pixels = build_pixel_transform(TransformSettings(image_size=image_size))(Image.new("RGB", (width, height), "teal"))
    assert pixels.shape == (3, image_size, image_size)
    assert (pixels == torch.tensor([0, 128, 128]).view(3, 1, 1)).all()


@pytest.mark.parametrize("size", [(5000, 3), (3, 5000), (60_000, 1)])
def test_strip_is_cropped_around_its_centre(size: tuple[int, int]) -> None:
    """A long strip is not blown up whole: its middle, which is all the crop shows, is prepared."""
    strip = Image.new("RGB", size, "black")
    left, top = (max(side // 2 - 8, 0) for side in size)
    strip.paste((255, 255, 255), (left, top, left + 16, top + 16))
    pixels = build_pixel_transform(TransformSettings())(strip)
    assert pixels.shape == (3, 224, 224)
    assert pixels.float().mean() > 250


def test_hash_names_the_settings() -> None:
    """Equal settings have one hash, however they were written; any change is another."""
    settings = TransformSettings()
    assert settings.sha256 == TransformSettings.model_validate_json(settings.model_dump_json()).sha256
    assert settings.sha256 == TransformSettings.model_validate({"std": [0.229, 0.224, 0.225]}).sha256
    changes: list[dict[str, object]] = [
        {"image_size": 288},
        {"crop_pct": 0.9},
        {"interpolation": "box"},
        {"mean": (0.5, 0.5, 0.5)},
    ]
    hashes = {settings.model_copy(update=change).sha256 for change in changes}
    assert len(hashes | {settings.sha256}) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 0},
        {"crop_pct": 0},
        {"crop_pct": 1.2},
        {"interpolation": "random"},
        {"std": (0.2, 0, 0.2)},
        {"mean": (0.5, float("nan"), 0.5)},
        {"mean": (0.5, 0.5)},
        {"crop": 0.9},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    """Settings that no picture could be prepared with cannot be made."""
    with pytest.raises(ValidationError):
        TransformSettings.model_validate(wrong)


def test_settings_do_not_change() -> None:
    """A record of the settings stays true."""
    with pytest.raises(ValidationError, match="frozen"):
        TransformSettings().image_size = 32  # type: ignore[misc]
