"""The photos that come with the package."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing

DemoSplit = Literal["test", "validation"]


def demo_folder() -> Path:
    """Where the demo photos lie: a folder of the splits `test` and `validation`.

    Raises:
        ImagesError: the package was installed without them, or inside an archive.
    """
    folder = Path(str(files("lfvit_cli").joinpath("demo", "photos")))
    if not folder.is_dir():
        raise ImagesError(f"the demo photos are not at {str(folder)!r}", "Install the package again with pip.")
    return folder


def demo_photos(split: DemoSplit = "test") -> Listing:
    """List one split of the demo photos, with labels and class names.

    Raises:
        ImagesError: the photos are not installed, or there is no such split.
    """
    return list_folder(demo_folder(), split=split)


def demo_class_names() -> tuple[str, ...]:
    """The classes of the demo photos, by index."""
    return demo_photos().class_names
