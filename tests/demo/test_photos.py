"""Tests of the photos that come with the package."""

from importlib.resources import files

from lfvit_cli.images.decode import open_image
from lfvit_cli.images.demo import demo_folder, demo_photos

DEMO = files("lfvit_cli") / "demo"


def test_licence_and_credit_come_along() -> None:
    """Whoever has the photos also has their licence, and a line on the source of each."""
    assert "Apache License" in (DEMO / "photos" / "LICENSE-Apache-2.0").read_text(encoding="utf-8")
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    for name in demo_photos().paths:
        assert f"| `{name}` |" in readme


def test_every_photo_decodes() -> None:
    """12 to 30 photos, each large enough to be looked at, and all together small enough to ship."""
    listing = demo_photos()
    assert 12 <= len(listing) <= 30
    assert all(min(open_image(listing.file(index)).size) >= 256 for index in range(len(listing)))
    assert sum(file.stat().st_size for file in demo_folder().iterdir()) < 6e6


def test_no_two_are_the_same() -> None:
    """Each file has content of its own."""
    contents = {demo_photos().file(index).read_bytes() for index in range(len(demo_photos()))}
    assert len(contents) == len(demo_photos())
