"""Tests of images/demo.py."""

import pytest

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.demo import demo_class_names, demo_folder, demo_photos


def test_demo_photos_are_found_without_a_path() -> None:
    """Both splits are listed from wherever the package is installed."""
    assert (len(demo_photos()), len(demo_photos("validation"))) == (372, 341)
    assert demo_photos().root == demo_folder() / "test"
    assert demo_photos().labelled


def test_class_names_are_those_of_both_splits() -> None:
    """A label means the same in both splits."""
    assert demo_class_names() == demo_photos("validation").class_names
    assert demo_class_names()[0] == "dress"
    assert len(demo_class_names()) == 10


def test_other_split_is_refused() -> None:
    """The training split does not come with the package."""
    with pytest.raises(ImagesError, match="has no split 'train'"):
        demo_photos("train")  # type: ignore[arg-type]
