"""Tests of images/decode.py."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from lfvit_cli.errors import UnreadableImageError
from lfvit_cli.images.decode import decode_image, open_image, pillow_warnings_ignored

ORIENTATION = 0x0112
# What a viewer has to do to a picture stored under each EXIF orientation, undone: how the camera stored it.
STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.rotate(180),
    4: ImageOps.flip,
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.rotate(90, expand=True),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.rotate(270, expand=True),
}


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean absolute difference of two pictures of one size, in grey levels."""
    assert one.size == other.size
    assert (one.mode, other.mode) == ("RGB", "RGB")
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_orientation_is_honoured(tmp_path: Path, photo: Image.Image, orientation: int, kind: str) -> None:
    """A real photo stored turned or mirrored comes out upright, whatever the format."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = tmp_path / f"photo.{kind}"
    STORED[orientation](photo).save(file, quality=95, exif=exif)
    assert difference(open_image(file), photo) < 4


@pytest.mark.parametrize(("mode", "kind"), [("L", "jpeg"), ("L", "png"), ("1", "png"), ("LA", "png"), ("L", "pgm")])
def test_grey_has_three_equal_channels(tmp_path: Path, photo: Image.Image, mode: str, kind: str) -> None:
    """A grey picture becomes RGB of the same brightness."""
    grey = photo.convert(mode)
    grey.save(tmp_path / f"grey.{kind}", "PPM" if kind == "pgm" else None)
    opened = open_image(tmp_path / f"grey.{kind}")
    assert difference(opened, Image.merge("RGB", [grey.convert("L")] * 3)) < 2
    assert len({band.tobytes() for band in opened.split()}) == 1


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_cmyk_keeps_its_colours(tmp_path: Path, photo: Image.Image, kind: str) -> None:
    """A CMYK picture looks like the RGB one, not like its negative."""
    photo.convert("CMYK").save(tmp_path / f"cmyk.{kind}", quality=95)
    assert difference(open_image(tmp_path / f"cmyk.{kind}"), photo) < 6


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_deep_grey_is_scaled(tmp_path: Path, kind: str) -> None:
    """Of 16-bit grey the whole range is kept: 0 is black, 65535 white, and what lies between keeps its order."""
    values = np.array([[0, 128, 257, 300], [25700, 32768, 65407, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{kind}")
    opened = np.asarray(open_image(tmp_path / f"deep.{kind}"))
    assert opened[..., 0].tolist() == [[0, 0, 1, 1], [100, 128, 255, 255]]
    assert opened.shape == (2, 4, 3)


def test_deep_grey_photo_looks_like_the_shallow_one(tmp_path: Path, photo: Image.Image) -> None:
    """A 16-bit grey photo comes out as its 8-bit twin."""
    grey = photo.convert("L")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert difference(open_image(tmp_path / "deep.png"), grey.convert("RGB")) == 0


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_transparency_is_laid_over_white(tmp_path: Path, kind: str) -> None:
    """Clear pixels are white, half-clear red is pink, opaque red is red."""
    picture = Image.new("RGBA", (3, 1))
    for x, pixel in enumerate([(255, 0, 0, 0), (255, 0, 0, 128), (255, 0, 0, 255)]):
        picture.putpixel((x, 0), pixel)
    picture.save(tmp_path / f"clear.{kind}", lossless=True)
    opened = open_image(tmp_path / f"clear.{kind}")
    assert [opened.getpixel((x, 0)) for x in range(3)] == [(255, 255, 255), (255, 127, 127), (255, 0, 0)]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    """Of a palette the colours are taken, and its clear colour becomes white."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "palette.png", transparency=transparency)
    opened = open_image(tmp_path / "palette.png")
    assert [opened.getpixel((x, 0)) for x in range(2)] == [(10, 20, 30), (255, 255, 255)]


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_animation_gives_its_first_frame(tmp_path: Path, kind: str) -> None:
    """Of several frames the first is taken."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"moving.{kind}", save_all=True, append_images=frames[1:])
    assert difference(open_image(tmp_path / f"moving.{kind}"), frames[0]) < 3


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 5000)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    """A single pixel and a long strip are images too."""
    Image.new("RGB", size, "teal").save(tmp_path / "odd.png")
    assert open_image(tmp_path / "odd.png").size == size


def test_name_and_extension_do_not_matter(tmp_path: Path, photo: Image.Image) -> None:
    """What counts is the content: a PNG named .JPEG with blanks and accents opens, by path or by text."""
    file = tmp_path / "мой снимок é 1.JPEG"
    photo.save(file, "PNG")
    assert difference(open_image(str(file)), photo) == 0


def truncated_jpeg(photo: Image.Image) -> bytes:
    """The first half of a JPEG."""
    stream = io.BytesIO()
    photo.save(stream, "JPEG")
    return stream.getvalue()[: stream.tell() // 2]


def huge_png(photo: Image.Image) -> bytes:
    """A few bytes that claim to be 40,000 x 40,000 pixels."""
    stream = io.BytesIO()
    photo.save(stream, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return stream.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + stream.getvalue()[33:]


def float_tiff(photo: Image.Image) -> bytes:
    """A picture of floating-point brightness."""
    stream = io.BytesIO()
    photo.convert("F").save(stream, "TIFF")
    return stream.getvalue()


def signed_tiff(photo: Image.Image) -> bytes:
    """Grey values below zero."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.int32) - 200).save(stream, "TIFF")
    return stream.getvalue()


def postscript(photo: Image.Image) -> bytes:
    """A program for a printer, which other readers would run."""
    stream = io.BytesIO()
    photo.save(stream, "EPS")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (truncated_jpeg, "truncated"),
        (huge_png, "exceeds limit"),
        (float_tiff, "floating-point"),
        (signed_tiff, "outside 0..65535"),
        (postscript, "not a JPEG"),
        (lambda _: b"This is a text file.", "not a JPEG"),
        (lambda _: b"", "not a JPEG"),
    ],
)
def test_unreadable_file_is_named_with_its_reason(
    tmp_path: Path, photo: Image.Image, content: Callable[[Image.Image], bytes], reason: str
) -> None:
    """A file that gives no picture is one error that names the file, the reason and the remedy."""
    file = tmp_path / "broken.jpg"
    file.write_bytes(content(photo))
    with pytest.raises(UnreadableImageError, match=rf"cannot read the image '.*broken\.jpg': .*{reason}") as caught:
        open_image(file)
    assert "remove it" in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """A path without a file behind it is unreadable, too."""
    with pytest.raises(UnreadableImageError, match="no such file"):
        open_image(tmp_path / "absent.jpg")
    with pytest.raises(UnreadableImageError, match="is a directory"):
        open_image(tmp_path)


def damaged_metadata(photo: Image.Image, file: Path) -> None:
    """Save a good photo whose EXIF block points beyond its end, about which Pillow warns."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x010F, 2, 100, 5000) + b"\0\0\0\0"
    photo.save(file, "JPEG", exif=exif)


def test_damaged_metadata_is_no_damaged_picture(tmp_path: Path, photo: Image.Image) -> None:
    """A photo with broken EXIF opens, and Pillow's warning about it does not leak."""
    damaged_metadata(photo, tmp_path / "exif.jpg")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        decode_image(tmp_path / "exif.jpg")
        assert [warning.category for warning in heard] == [UserWarning]
        assert difference(open_image(tmp_path / "exif.jpg"), photo) < 4
    assert len(heard) == 1


def test_other_warnings_still_pass() -> None:
    """Only Pillow is silenced."""
    with pytest.warns(UserWarning, match="ours"), pillow_warnings_ignored():
        warnings.warn("ours", stacklevel=1)


def test_photo_with_a_colour_profile(tmp_path: Path, photo: Image.Image) -> None:
    """An embedded colour profile does not change the pixels, as in the field's own loaders."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(tmp_path / "profile.png", icc_profile=profile)
    assert difference(open_image(tmp_path / "profile.png"), photo) == 0


def test_listing_and_decoding_stay_light() -> None:
    """Neither listing nor decoding nor their errors load torch."""
    modules = ("classes", "listing", "folder", "sampling", "decode", "demo")
    imports = ", ".join(f"lfvit_cli.images.{module}" for module in modules)
    code = f"import sys, lfvit_cli.errors, {imports}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
