"""A limited, seeded choice of images that is spread over the classes."""

import hashlib
from collections import defaultdict

from lfvit_cli.errors import ImagesError
from lfvit_cli.images.listing import Listing


def sample(listing: Listing, limit: int, *, seed: int = 0) -> Listing:
    """Choose `limit` images, as evenly over the classes as their sizes allow.

    The classes take turns, each giving one image a round. So with one seed a smaller sample is part of every larger
    one. The images keep the order of the listing.

    Args:
        listing: the images to choose from.
        limit: how many to choose; all of them where the listing holds no more.
        seed: which choice.

    Raises:
        ImagesError: the limit is less than one.
    """
    if limit < 1:
        raise ImagesError(f"a sample of {limit} images is empty", "Choose a limit of 1 or more.")
    members = defaultdict(list)
    for index, label in enumerate(listing.labels):
        members[label].append(index)
    turns = []
    for label, indexes in members.items():
        indexes.sort(key=lambda index: _rank(seed, listing.paths[index]))
        turns += [(turn, _rank(seed, str(label)), index) for turn, index in enumerate(indexes)]
    return listing.select(sorted(index for _, _, index in sorted(turns)[:limit]))


def choose(count: int, limit: int, *, seed: int = 0) -> list[int]:
    """Choose `limit` of `count` places, in ascending order, where no classes are known.

    Raises:
        ImagesError: the limit is less than one.
    """
    if limit < 1:
        raise ImagesError(f"a sample of {limit} images is empty", "Choose a limit of 1 or more.")
    return sorted(sorted(range(count), key=lambda place: _rank(seed, str(place)))[:limit])


def _rank(seed: int, name: str) -> bytes:
    # A hash, because the streams of random generators differ between versions of their libraries.
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
