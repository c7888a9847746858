"""The photos that come with the package."""

from importlib.resources import files
from pathlib import Path

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.folder import list_folder
from lfvit_cli.images.listing import Listing

# In a command line, before the name of one of the photos.
PREFIX = "demo:"


def demo_folder() -> Path:
    """Where the photos lie, all in one folder.

    Raises:
        ImagesError: the package was installed without them, or inside an archive.
    """
    folder = Path(str(files("lfvit_cli").joinpath("demo", "photos")))
    if not folder.is_dir():
        raise ImagesError(f"the demo photos are not at {str(folder)!r}", "Install the package again with pip.")
    return folder


def demo_photos() -> Listing:
    """List them, unlabelled.

    Raises:
        ImagesError: they are not installed.
    """
    return list_folder(demo_folder())


def demo_photo(name: str) -> Path:
    """The file of one of them, by its name in their folder.

    Raises:
        ImagesError: there is none of that name.
    """
    photos = demo_photos()
    if name not in photos.paths:
        raise ImagesError(f"no demo photo is called {name!r}", f"There are: {', '.join(photos.paths)}.")
    return photos.file(photos.paths.index(name))
