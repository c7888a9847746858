"""Tests of images/listing.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from lfvit_cli.images.listing import Listing

LISTING = Listing(Path("here"), ("a/1.jpg", "b/2.jpg"), (100, 200), (0, 1), ("a", "b"))


def test_hash_does_not_depend_on_where_the_folder_lies() -> None:
    """Two machines that hold the same files agree, wherever they keep them."""
    assert replace(LISTING, root=Path("/elsewhere")).sha256 == LISTING.sha256


@pytest.mark.parametrize(
    "changed",
    [
        replace(LISTING, paths=("a/1.jpg", "b/3.jpg")),
        replace(LISTING, sizes=(100, 201)),
        replace(LISTING, labels=(1, 0)),
        LISTING.select([0]),
        LISTING.select([1, 0]),
    ],
)
def test_hash_tells_different_listings_apart(changed: Listing) -> None:
    """Another path, size, label, number or order of images is another hash."""
    assert changed.sha256 != LISTING.sha256


def test_hash_is_stable() -> None:
    """The hash is the one that earlier records hold."""
    assert LISTING.sha256 == "6897077870b2df47c6c35c9790522f04f4f4b3742a1cb4e2f5cc42fb8e476752"


def test_name_that_is_no_text_can_be_hashed() -> None:
    """A file name that is not UTF-8 (as Linux allows) still has a hash."""
    assert replace(LISTING, paths=("a/1.jpg", "b/\udcff.jpg")).sha256 != LISTING.sha256


def test_select_keeps_rows_together() -> None:
    """Path, size and label of an image stay together, in the order asked for."""
    chosen = LISTING.select([1, 0])
    assert (chosen.paths, chosen.sizes, chosen.labels) == (("b/2.jpg", "a/1.jpg"), (200, 100), (1, 0))
    assert chosen.class_names == LISTING.class_names
    assert chosen.file(0) == Path("here/b/2.jpg")
    assert len(LISTING.select([])) == 0


def test_labelled_means_every_image() -> None:
    """One unlabelled image makes a listing unlabelled."""
    assert LISTING.labelled
    assert not replace(LISTING, labels=(0, -1)).labelled
