"""Files, folders and patterns become photos, and the frame is the part of a photo that a network sees."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.transforms import TransformSettings, build_pixel_transform
from lfvit_cli.looks.photos import crop_frame, find_photos, spread


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two class folders with three photos and a text."""
    for name in ("ant/1.jpg", "ant/2.png", "bee/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "ant/notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["ant/1.jpg", "ant/2.png", "bee/1.jpg"]),
        ("ant", ["ant/1.jpg", "ant/2.png"]),
        ("*/1.jpg", ["ant/1.jpg", "bee/1.jpg"]),
        ("ant/*", ["ant/1.jpg", "ant/2.png"]),
        ("**", ["ant/1.jpg", "ant/2.png", "bee/1.jpg"]),
        ("ant/notes.txt", ["ant/notes.txt"]),
    ],
)
def test_arguments_name_photos(photos: Path, pattern: str, found: list[str]) -> None:
    """A folder is listed, a pattern takes images only, and a file is taken at its word."""
    assert find_photos([str(photos / pattern)]).files == tuple(photos / name for name in found)


def test_no_photo_comes_twice(photos: Path) -> None:
    """A photo named by itself and by its folder is one photo, in the place first named."""
    first = str(photos / "bee/1.jpg")
    assert len(find_photos([first, str(photos)]).files) == 3
    assert find_photos([first, str(photos)]).files[0] == Path(first)


def test_class_folders_are_known(photos: Path) -> None:
    """A folder of class folders tells the classes; a flat one does not."""
    assert find_photos([str(photos)]).class_folders == ("ant", "bee")
    assert find_photos([str(photos / "ant")]).class_folders == ()


def test_a_file_with_a_pattern_in_its_name_is_a_file(photos: Path) -> None:
    """Brackets in the name of a file that exists are no pattern."""
    (photos / "bee/1.jpg").rename(photos / "bee/[1].jpg")
    assert find_photos([str(photos / "bee/[1].jpg")]).files == (photos / "bee/[1].jpg",)


@pytest.mark.parametrize(("name", "problem"), [("none.jpg", "no image or folder"), ("*.gif", "no image matches")])
def test_nothing_found_says_so(photos: Path, name: str, problem: str) -> None:
    """What leads to nothing is named."""
    with pytest.raises(ImagesError, match=problem):
        find_photos([str(photos / name)])


def test_a_limit_takes_from_every_class() -> None:
    """Of two classes each gives one, in the order of the files."""
    files = [Path(f"ant/{number}.jpg") for number in range(8)] + [Path("bee/0.jpg")]
    chosen = spread(files, [0] * 8 + [1], 2)
    assert [file.parent.name for file in chosen] == ["ant", "bee"]
    assert spread(files, [None] * 9, None) == tuple(files)


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 400), st.integers(20, 400), st.sampled_from([0.875, 0.9, 1.0]))
@example(300, 4, 0.875)
@example(4, 300, 0.875)
def test_the_frame_is_where_the_crop_comes_from(width: int, height: int, crop_pct: float) -> None:
    """In a photo whose colours tell the place, the crop's middle and borders have the colours of the frame's."""
    transform = TransformSettings(image_size=64, crop_pct=crop_pct, interpolation="bilinear")
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    photo = Image.fromarray(np.stack([across, down, down], -1).round().astype(np.uint8))
    crop = build_pixel_transform(transform)(photo).numpy().astype(float)
    frame = crop_frame(width, height, transform)
    for colours, start, length, side in (
        (crop[0, 32], frame.left, frame.width, width),
        (crop[1, :, 32], frame.top, frame.height, height),
    ):
        places = start + (np.arange(64) + 0.5) / 64 * length
        expected = np.interp(places - 0.5, np.arange(side), np.linspace(0, 255, side))
        pixel = 255 / side
        resized = length / 64 * pixel
        # Away from the photo's own border, where resampling sees only one side.
        inner = slice(4, -4)
        assert np.abs(colours - expected)[inner].max() <= 1.5 + pixel + resized


def test_a_square_photo_is_cut_evenly() -> None:
    """A 256-pixel square loses 16 pixels on every side."""
    assert crop_frame(256, 256, TransformSettings()) == (16, 16, 224, 224)
