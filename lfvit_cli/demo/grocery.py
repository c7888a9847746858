"""The Grocery Store Dataset: which photos it holds, where they lie, and whether they are whole.

Klasson, Zhang and Kjellström, "A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels", WACV 2019,
arXiv 1901.00711; MIT licence. The split into train, validation and test is the authors'. The photos do not come with
the package: ``lfvit data grocery`` fetches them.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from lfvit_cli.errors import ImagesError

NAME = "grocery"
COMMIT = "fc80ba90f803d79d0383df52c5a4ac5de99ff6fc"
URL = f"https://github.com/marcusklasson/GroceryStoreDataset/archive/{COMMIT}.zip"
SPLITS = ("train", "validation", "test")
LICENCE = "LICENSE"
# A line "SPLIT/CLASS" for every class folder, below it "NUMBER BYTES SHA-256" for each photo CLASS_NUMBER.jpg.
LIST = Path(__file__).with_name("grocery-sha256.txt")


class Photo(NamedTuple):
    """What a photo has to be: its size in bytes, and the SHA-256 of its content in hexadecimal digits."""

    size: int
    sha256: str

    def is_content(self, content: bytes) -> bool:
        """Whether a file with this content is the published photo."""
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


@dataclass(frozen=True)
class Contents:
    """What the set holds.

    Attributes:
        folders: every class folder, as ``SPLIT/CLASS``: each class in each split, with photos or without.
        photos: by path, as ``SPLIT/CLASS/NAME``.
    """

    folders: tuple[str, ...]
    photos: dict[str, Photo]

    @property
    def classes(self) -> list[str]:
        """Names of the classes; their places here are the labels."""
        return sorted({folder.partition("/")[2] for folder in self.folders})

    @property
    def size(self) -> int:
        """Bytes of all photos together."""
        return sum(photo.size for photo in self.photos.values())

    def photos_in(self, split: str) -> int:
        """How many photos a split has."""
        return sum(path.startswith(f"{split}/") for path in self.photos)

    def classes_in(self, split: str) -> int:
        """How many classes have photos in a split."""
        return len({path.rpartition("/")[0] for path in self.photos if path.startswith(f"{split}/")})


def contents() -> Contents:
    """Read the list that comes with the package."""
    folders: list[str] = []
    photos: dict[str, Photo] = {}
    for line in LIST.read_text("utf-8").splitlines():
        if "/" in line:
            folders.append(line)
        else:
            number, size, sha256 = line.split()
            photos[f"{folders[-1]}/{folders[-1].partition('/')[2]}_{number}.jpg"] = Photo(int(size), sha256)
    return Contents(tuple(folders), photos)


def data_folder() -> Path:
    """Where data sets lie: what LFVIT_DATA names, or the user's cache."""
    named = os.environ.get("LFVIT_DATA")
    return Path(named).expanduser() if named else user_cache_path("lfvit")


def fetched(name: str) -> Path | None:
    """The folder of a data set, where all of it is there; None where it is not, or where the name is of no set.

    The folder holds the splits ``train``, ``validation`` and ``test``, each with the same class folders.
    """
    folder = data_folder() / name
    return folder if name == NAME and not lacking(folder, contents()) else None


def is_grocery(text: str) -> bool:
    """Whether what ``--data`` names is this set, and not a folder of its name."""
    return text == NAME and not Path(text).is_dir()


def judged_split(data: str, split: str | None) -> str | None:
    """The split to judge networks on: as given, or the test photos of the set; None for the folder's own default.

    Args:
        data: what ``--data`` names.
        split: what ``--split`` names.
    """
    return "test" if split is None and is_grocery(data) else split


def resolve_data(text: str) -> str:
    """Turn the name of a data set into its folder; leave every other text as it is, also where such a folder is here.

    Args:
        text: what ``--data`` names.

    Raises:
        ImagesError: the set is not fetched.
    """
    if not is_grocery(text):
        return text
    folder = fetched(text)
    if folder is None:
        raise ImagesError(
            f"the photos of {text!r} are not at {str(data_folder() / text)!r}", f"Fetch them: lfvit data {text}."
        )
    return str(folder)


def lacking(folder: Path, whole: Contents, *, hashed: bool = False) -> list[str]:
    """Say what keeps a folder from being the whole set.

    Args:
        folder: where the set should lie.
        whole: what it should hold.
        hashed: whether to read every photo and compare its hash, too; otherwise its size is enough.

    Returns:
        Paths of the class folders that are missing, and of the photos that are missing or not as published.
    """
    wrong = [path for path in whole.folders if not (folder / path).is_dir()]
    for path, photo in whole.photos.items():
        file = folder / path
        try:
            right = photo.is_content(file.read_bytes()) if hashed else file.stat().st_size == photo.size
        except OSError:
            right = False
        if not right:
            wrong.append(path)
    return wrong
