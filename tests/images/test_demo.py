"""Tests of images/demo.py."""

import pytest

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.demo import demo_folder, demo_photo, demo_photos


def test_demo_photos_are_found_without_a_path() -> None:
    """They are listed from wherever the package is installed, without labels."""
    assert demo_photos().root == demo_folder()
    assert "apple.jpg" in demo_photos().paths
    assert not demo_photos().labelled


def test_a_photo_by_its_name() -> None:
    """One that is there is its file; for one that is not, all names are told."""
    assert demo_photo("apple.jpg") == demo_folder() / "apple.jpg"
    with pytest.raises(ImagesError, match=r"no demo photo is called 'pear.jpg'. There are: apple.jpg, .*orange.jpg"):
        demo_photo("pear.jpg")
