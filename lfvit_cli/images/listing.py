"""A listing: image files in a fixed order, with their labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Listing:
    """Image files below one root, in a fixed order, with their labels.

    Attributes:
        root: the folder that the paths are relative to.
        paths: POSIX paths relative to the root.
        sizes: file sizes in bytes.
        labels: class indexes; -1 where the class is unknown.
        class_names: the name of every class, by index; empty where no class is known.
    """

    root: Path
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        """Where image `index` lies."""
        return self.root / self.paths[index]

    def select(self, indexes: Sequence[int]) -> Self:
        """Keep the images at these indexes, in this order."""
        return type(self)(
            self.root,
            tuple(self.paths[i] for i in indexes),
            tuple(self.sizes[i] for i in indexes),
            tuple(self.labels[i] for i in indexes),
            self.class_names,
        )

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""
        return UNLABELLED not in self.labels

    @property
    def sha256(self) -> str:
        """Hash of relative path, size in bytes and label of every image: the same wherever the folder lies."""
        digest = hashlib.sha256()
        for path, size, label in zip(self.paths, self.sizes, self.labels, strict=True):
            digest.update(f"{path}\0{size}\0{label}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
