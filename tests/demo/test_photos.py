"""Tests of the photos that come with the package."""

from collections import Counter
from importlib.resources import files

import pytest

from lfvit_cli.images.decode import open_image
from lfvit_cli.images.demo import DemoSplit, demo_photos

DEMO = files("lfvit_cli") / "demo"


def test_licence_and_credit_come_along() -> None:
    """Whoever has the photos also has their licence and the names of their makers."""
    assert "CC0 1.0 Universal" in (DEMO / "photos" / "LICENSE").read_text(encoding="utf-8")
    assert "Alexey Grigorev and contributors" in (DEMO / "README.md").read_text(encoding="utf-8")


def test_readme_counts_the_photos() -> None:
    """The table in the README is what the folders hold."""
    test, validation = (demo_photos(split) for split in ("test", "validation"))
    counts = [Counter(split.labels) for split in (test, validation)]
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    for label, name in enumerate(test.class_names):
        assert f"| {name} | {counts[0][label]} | {counts[1][label]} |\n" in readme
    assert f"| all | {len(test)} | {len(validation)} |\n" in readme


@pytest.mark.parametrize("split", ["test", "validation"])
def test_every_photo_decodes(split: DemoSplit) -> None:
    """Every photo is whole, and 256 pixels on its short side."""
    listing = demo_photos(split)
    for index in range(len(listing)):
        size = open_image(listing.file(index)).size
        assert min(size) == 256
        assert max(size) <= 341


def test_splits_share_no_photo() -> None:
    """No file of one split is also in the other."""
    contents = [
        {listing.file(index).read_bytes() for index in range(len(listing))}
        for listing in (demo_photos("test"), demo_photos("validation"))
    ]
    assert contents[0].isdisjoint(contents[1])
