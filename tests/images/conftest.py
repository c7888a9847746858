"""Real photos and small folders of images for these tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from labelled import labelled_photos
from PIL import Image

from lfvit_cli.images.transforms import TransformSettings

MakeFolder = Callable[..., Path]


@pytest.fixture
def photo() -> Image.Image:
    """A real photo, wider or higher than square."""
    listing = labelled_photos("validation")
    for index in range(len(listing)):
        with Image.open(listing.file(index)) as image:
            if image.width != image.height:
                return image.convert("RGB")
    pytest.fail("the demo photos are all square")


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Build a folder of small images (and of text files) from their relative paths."""

    def make(*names: str) -> Path:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".txt":
                file.write_text("no image")
            else:
                Image.new("RGB", (12 + number, 10), (20 * number, 90, 200)).save(file, "PNG")
        return root

    return make


@pytest.fixture
def small() -> TransformSettings:
    """Settings for 32-pixel crops."""
    return TransformSettings(image_size=32)
